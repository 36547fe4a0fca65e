//! A tokenizer for Rust source text.

pub(crate) fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits source text into names, `::` and single characters. Omits comments and literals.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let end = |of: &str, end: &str| of.find(end).map_or(of.len(), |at| at + end.len());
        let length = if rest.starts_with("//") {
            end(rest, "\n")
        } else if rest.starts_with("/*") {
            end(rest, "*/")
        } else if first == '"' {
            let mut escaped = false;
            let closes = |c: char| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            };
            rest[1..].find(closes).map_or(rest.len(), |at| at + 2)
        } else if ["r", "br"].contains(&&rest[..word]) && rest[word..].starts_with(['"', '#']) {
            let hashes = rest[word..].chars().take_while(|c| *c == '#').count();
            let close = format!("\"{}", "#".repeat(hashes));
            let open = word + hashes + 1;
            open + end(rest.get(open..).unwrap_or_default(), &close)
        } else if rest.starts_with("'\\") {
            2 + end(&rest[3..], "'") + 1
        } else if first == '\'' && rest.chars().nth(2) == Some('\'') {
            rest.char_indices().nth(3).map_or(rest.len(), |(at, _)| at)
        } else {
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(rest[..length].to_owned());
            }
            length
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// Removes items under `#[cfg(test)]`.
pub(crate) fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let starts = |at: usize, with: &[&str]| {
        with.iter()
            .enumerate()
            .all(|(index, token)| tokens.get(at + index).is_some_and(|there| there == token))
    };
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let for_tests = starts(at, &["#", "[", "cfg", "(", "test", ")"])
            || starts(at, &["#", "[", "cfg", "(", "all", "(", "test"]);
        if !for_tests {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // Skip to the end of the item, which is a semicolon or the closing brace.
        let mut depth = 0;
        let mut declares_use = false;
        while at < tokens.len() {
            declares_use |= depth == 0 && tokens[at] == "use";
            match tokens[at].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            let ended = tokens[at - 1] == ";" || (tokens[at - 1] == "}" && !declares_use);
            if depth == 0 && ended {
                break;
            }
        }
    }
    kept
}
