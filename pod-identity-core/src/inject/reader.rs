//! A pull reader of JSON (RFC 8259): the caller reads the values that it needs, all others are checked and skipped.
//!
//! Reading allocates nothing, except for strings with escapes. Nesting that is skipped costs one byte for each level and no
//! stack. The whole text is checked as serde_json checks it, with one difference that it shares with
//! `serde::de::IgnoredAny`: a skipped string may hold an escape of a lone surrogate (`"\ud800"`). The grammar of RFC 8259
//! allows it; only a string that is read has to be valid Unicode.

mod error; // why a text cannot be read
mod string; // the end of a string, and its escapes
mod skip; // values that are not read

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
    has_control_characters: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            position: 0,
            open: Vec::new(),
            has_control_characters: string::has_control_characters(text),
        }
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
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        let start = self.position + 1;
        let has_escapes = self.skip_string()?;
        let content = &self.text[start..self.position - 1];
        if has_escapes { self.decoded(start, content) } else { Ok(Cow::Borrowed(content)) }
    }

    #[cold]
    fn decoded(&mut self, start: usize, content: &str) -> Result<Cow<'a, str>> {
        string::decode(content).map(Cow::Owned).ok_or_else(|| {
            self.position = start - 1;
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
                let value = self.raw()?;
                Ok(Err((error, value)))
            }
        }
    }

    /// Checks a value of any type and depth, and returns its text.
    pub(super) fn raw(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.position;
        self.skip()?;
        Ok(&self.text[start..self.position])
    }

    /// Checks a value of any type and depth.
    pub(super) fn skip(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        let end = skip::value(bytes, self.position, &mut self.open, self.has_control_characters);
        self.moved_to(end)
    }

    #[inline(always)]
    fn moved_to(&mut self, end: skip::Skipped) -> Result<()> {
        match end {
            Ok(end) => {
                self.position = end;
                Ok(())
            }
            Err((position, reason)) => {
                self.position = position;
                Err(self.syntax(reason))
            }
        }
    }

    /// Reads a key and its colon.
    #[inline(always)]
    fn key(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax("expected a key"));
        }
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<()> {
        if self.take(b':') { Ok(()) } else { Err(self.syntax("expected `:`")) }
    }

    /// Reads a comma, or the end of an array or object. Returns whether it was a comma.
    #[inline(always)]
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
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        self.position = skip::whitespace(self.text.as_bytes(), self.position);
        self.text.as_bytes().get(self.position).copied()
    }

    /// Skips whitespace, and the byte if it is the next one.
    #[inline(always)]
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn literal(&mut self, name: &'static str) -> Result<()> {
        self.moved_to(skip::literal(self.text.as_bytes(), self.position, name))
    }

    /// Skips a string and returns whether it has escapes. The next byte is the opening quote.
    #[inline(always)]
    fn skip_string(&mut self) -> Result<bool> {
        let (bytes, start) = (self.text.as_bytes(), self.position + 1);
        let end = string::find_quote_or_backslash(bytes, start);
        if bytes.get(end) == Some(&b'"') && !self.has_control_characters {
            self.position = end + 1;
            return Ok(false);
        }
        self.skip_checked_string(start, end)
    }

    #[cold]
    #[inline(never)]
    fn skip_checked_string(&mut self, start: usize, next: usize) -> Result<bool> {
        match string::end(self.text.as_bytes(), start, next, self.has_control_characters) {
            Ok((end, has_escapes)) => {
                self.position = end + 1;
                Ok(has_escapes)
            }
            Err((position, reason)) => {
                self.position = position;
                Err(self.syntax(reason))
            }
        }
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
