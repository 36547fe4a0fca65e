//! XML elements with escaped values.

use quick_xml::escape::escape;

/// An element without attributes that contains text or other elements.
pub(super) struct Element {
    name: &'static str,
    content: Content,
}

enum Content {
    Text(String),
    Elements(Vec<Element>),
}

/// Creates an element with text.
pub(super) fn text(name: &'static str, text: impl Into<String>) -> Element {
    Element { name, content: Content::Text(text.into()) }
}

/// Creates an element with child elements.
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

/// Replaces the control characters that XML 1.0 cannot represent, not even escaped.
fn printable(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_markup_in_values() {
        let mut out = String::new();
        elements("A", vec![text("B", "<x a=\"1\">&\u{0}")]).write(&mut out);
        assert_eq!(out, "<A><B>&lt;x a=&quot;1&quot;&gt;&amp;\u{fffd}</B></A>");
    }
}
