//! Elements of XML, written so that no value can become markup.

use quick_xml::escape::escape;

/// An element without attributes: text or other elements.
pub(super) struct Element {
    name: &'static str,
    content: Content,
}

enum Content {
    Text(String),
    Elements(Vec<Element>),
}

/// An element that holds text.
pub(super) fn text(name: &'static str, text: impl Into<String>) -> Element {
    Element { name, content: Content::Text(text.into()) }
}

/// An element that holds others.
pub(super) fn elements(name: &'static str, elements: Vec<Element>) -> Element {
    Element { name, content: Content::Elements(elements) }
}

impl Element {
    /// Appends the element to a document.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(&format!("<{}>", self.name));
        match &self.content {
            Content::Text(text) => out.push_str(&escape(printable(text).as_str())),
            Content::Elements(elements) => elements.iter().for_each(|element| element.write(out)),
        }
        out.push_str(&format!("</{}>", self.name));
    }
}

/// XML 1.0 has no way to write most control characters, not even escaped.
fn printable(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_becomes_markup() {
        let mut out = String::new();
        elements("A", vec![text("B", "<x a=\"1\">&\u{0}")]).write(&mut out);
        assert_eq!(out, "<A><B>&lt;x a=&quot;1&quot;&gt;&amp;\u{fffd}</B></A>");
    }
}
