//! A pull reader of JSON (RFC 8259): the caller reads the values that it needs, all others are checked and skipped.
//!
//! Reading allocates nothing, except for strings with escapes. Nesting that is skipped costs one byte for each level and no
//! stack. The whole text is checked as serde_json checks it, with one difference that it shares with
//! `serde::de::IgnoredAny`: a skipped string may hold an escape of a lone surrogate (`"\ud800"`). The grammar of RFC 8259
//! allows it; only a string that is read has to be valid Unicode.

mod error; // why a text cannot be read
mod string; // the end of a string, and its escapes

use std::borrow::Cow;

use self::error::Found;
pub(super) use self::error::ReadError;

type Result<T> = std::result::Result<T, ReadError>;

/// The maximum number of items in a list or map, and what the items are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) most: usize,
    pub(super) name: &'static str,
}

/// Reads the values of a JSON text one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    /// The offset of the next byte.
    position: usize,
    /// The arrays and objects around the position while a value is skipped: whether each is an object.
    open: Vec<bool>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0, open: Vec::new() }
    }

    /// Checks that only whitespace follows.
    pub(super) fn end(mut self) -> Result<()> {
        if self.peek().is_some() { Err(self.syntax("expected the end of the text")) } else { Ok(()) }
    }

    /// Reads an object and calls `member` with each key. `member` has to read or skip the value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        self.entries(|reader, key| member(reader, key))
    }

    /// The same as [`Self::object`], for callers that keep keys.
    pub(super) fn entries(
        &mut self,
        mut entry: impl FnMut(&mut Self, &Cow<'a, str>) -> Result<()>,
    ) -> Result<()> {
        if self.peek() != Some(b'{') {
            return Err(self.unexpected("an object"));
        }
        self.position += 1;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            entry(self, &key).map_err(|error| error.in_member(&key))?;
            if !self.continues(b'}', "expected `,` or `}`")? {
                return Ok(());
            }
        }
    }

    /// Reads a list and calls `item` for each item, which has to read or skip it. Returns an error at the first item beyond
    /// the limit, before the rest is read.
    pub(super) fn items(
        &mut self,
        limit: Limit,
        mut item: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if self.peek() != Some(b'[') {
            return Err(self.unexpected("a list"));
        }
        self.position += 1;
        if self.take(b']') {
            return Ok(());
        }
        for index in 0..limit.most {
            item(self).map_err(|error| error.in_item(index))?;
            if !self.continues(b']', "expected `,` or `]`")? {
                return Ok(());
            }
        }
        Err(ReadError::beyond(limit.most, limit.name))
    }

    /// Reads a list into a vector, without the items for which `item` returns `None`. These count against the limit too.
    pub(super) fn list<T>(
        &mut self,
        limit: Limit,
        mut item: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let mut list = Vec::new();
        self.items(limit, |reader| {
            list.extend(item(reader)?);
            Ok(())
        })?;
        if list.len() > 64 {
            list.shrink_to_fit(); // a review is to take a few times its own size at most
        }
        Ok(list)
    }

    /// Reads a member that an object may have once.
    pub(super) fn once<T>(
        &mut self,
        member: &mut Option<T>,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<()> {
        if member.is_some() {
            return Err(ReadError::duplicate());
        }
        *member = Some(read(self)?);
        Ok(())
    }

    /// Reads `null` as `None`, and any other value by `read`.
    pub(super) fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.peek() == Some(b'n') {
            self.literal("null")?;
            return Ok(None);
        }
        read(self).map(Some)
    }

    pub(super) fn bool(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b't') => self.literal("true").map(|()| true),
            Some(b'f') => self.literal("false").map(|()| false),
            _ => Err(self.unexpected("true or false")),
        }
    }

    /// Reads a string. It is borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        let start = self.position;
        let raw = self.skip_string()?;
        if !raw.has_escapes {
            return Ok(Cow::Borrowed(raw.content));
        }
        let decoded = string::decode(raw.content);
        decoded.map(Cow::Owned).ok_or_else(|| {
            self.position = start;
            self.syntax("the string has an escape of a lone surrogate")
        })
    }

    /// Reads a string and ignores its content.
    pub(super) fn ignored_string(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        self.skip_string().map(drop)
    }

    /// Reads a value by `read`. If that fails, skips the value and returns the error with the value's text.
    ///
    /// # Errors
    /// The outer error if the value is not JSON.
    pub(super) fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<std::result::Result<T, (ReadError, &'a str)>> {
        let start = self.position;
        match read(self) {
            Ok(value) => Ok(Ok(value)),
            Err(error) => {
                self.position = start;
                let value = self.skip()?;
                Ok(Err((error, value)))
            }
        }
    }

    /// Checks a value of any type and depth, and returns its text.
    pub(super) fn skip(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.position;
        self.open.clear();
        loop {
            match self.peek() {
                Some(b'"') => drop(self.skip_string()?),
                Some(b'{') => {
                    self.position += 1;
                    if !self.take(b'}') {
                        self.open.push(true);
                        self.skip_key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.position += 1;
                    if !self.take(b']') {
                        self.open.push(false);
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.skip_number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.syntax("expected a value")),
            }
            if !self.skip_ends()? {
                return Ok(&self.text[start..self.position]);
            }
        }
    }

    /// Skips the ends of arrays and objects behind a value. Returns whether another value follows.
    fn skip_ends(&mut self) -> Result<bool> {
        while let Some(&is_object) = self.open.last() {
            let (end, wanted) =
                if is_object { (b'}', "expected `,` or `}`") } else { (b']', "expected `,` or `]`") };
            if self.continues(end, wanted)? {
                if is_object {
                    self.skip_key()?;
                }
                return Ok(true);
            }
            self.open.pop();
        }
        Ok(false)
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax("expected a key"));
        }
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    fn skip_key(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax("expected a key"));
        }
        self.skip_string()?;
        self.colon()
    }

    fn colon(&mut self) -> Result<()> {
        if self.take(b':') { Ok(()) } else { Err(self.syntax("expected `:`")) }
    }

    /// Reads a comma, or the end of an array or object. Returns whether it was a comma.
    fn continues(&mut self, end: u8, wanted: &'static str) -> Result<bool> {
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.syntax(wanted)),
        }
    }

    /// Skips whitespace and returns the next byte.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.position) {
            self.position += 1;
        }
        bytes.get(self.position).copied()
    }

    /// Skips whitespace, and the byte if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn literal(&mut self, name: &'static str) -> Result<()> {
        if !self.text.as_bytes()[self.position..].starts_with(name.as_bytes()) {
            return Err(self.syntax("expected a value"));
        }
        self.position += name.len();
        Ok(())
    }

    fn skip_string(&mut self) -> Result<string::Raw<'a>> {
        match string::scan(self.text, self.position + 1) {
            Ok(raw) => {
                self.position = raw.end;
                Ok(raw)
            }
            Err((position, reason)) => {
                self.position = position;
                Err(self.syntax(reason))
            }
        }
    }

    fn skip_number(&mut self) -> Result<()> {
        let minus = self.next_is(|byte| byte == b'-');
        self.position += usize::from(minus);
        if self.next_is(|byte| byte == b'0') {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(|byte| byte == b'.') {
            self.position += 1;
            self.digits()?;
        }
        if self.next_is(|byte| matches!(byte, b'e' | b'E')) {
            self.position += 1;
            let sign = self.next_is(|byte| matches!(byte, b'+' | b'-'));
            self.position += usize::from(sign);
            self.digits()?;
        }
        Ok(())
    }

    /// Skips one digit or more.
    fn digits(&mut self) -> Result<()> {
        if !self.next_is(|byte| byte.is_ascii_digit()) {
            return Err(self.syntax("expected a digit"));
        }
        while self.next_is(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
        Ok(())
    }

    fn next_is(&self, is: impl FnOnce(u8) -> bool) -> bool {
        self.text.as_bytes().get(self.position).is_some_and(|byte| is(*byte))
    }

    #[cold]
    fn syntax(&self, expected: &'static str) -> ReadError {
        ReadError::syntax(expected, self.text, self.position)
    }

    /// A value of another type than the one wanted, or no value.
    #[cold]
    fn unexpected(&mut self, wanted: &'static str) -> ReadError {
        let found = match self.peek() {
            Some(b'{') => Found::Type("an object"),
            Some(b'[') => Found::Type("a list"),
            Some(b'"') => match self.string() {
                Ok(text) => Found::String(text),
                Err(error) => return error,
            },
            Some(b'-' | b'0'..=b'9') => Found::Type("a number"),
            Some(b't' | b'f') => Found::Type("true or false"),
            Some(b'n') => Found::Type("null"),
            _ => return self.syntax("expected a value"),
        };
        ReadError::wrong_type(&found, wanted)
    }
}

#[cfg(test)]
mod tests;
