//! Wildcards: `*` for any text, `?` for any character, in a text or in each part of an ARN.

/// Returns whether `text` matches `pattern`. Case matters.
///
/// The match is greedy with one backtracking point, so its time is at most the product of both lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // pattern position after the star, text position of its end
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, eaten)) = star else { return false };
                star = Some((after, eaten + 1));
                p = after;
                t = eaten + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Returns whether an ARN matches a pattern part by part, so that a wildcard in the first five parts matches no colon
/// (*Condition operators*, ARN operators).
pub(super) fn matches_arn(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<_>, Vec<_>) = (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    pattern.len() == 6 && arn.len() == 6 && pattern.iter().zip(&arn).all(|(p, a)| matches(p, a))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => naive(rest, text),
            (Some(('*', rest)), Some((_, tail))) => naive(rest, text) || naive(pattern, tail),
            (Some((p, rest)), Some((t, tail))) => (*p == '?' || p == t) && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_like_a_naive_implementation(pattern in "[ab*?]{0,10}", text in "[ab*?]{0,12}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }

    #[test]
    fn wildcard_in_one_part_of_an_arn_does_not_match_the_next_part() {
        let role = "arn:aws:iam::111122223333:role/team/app";
        assert!(matches_arn("arn:aws:iam::111122223333:role/*", role));
        assert!(matches_arn("arn:*:iam::*:role/team/a?p", role));
        assert!(!matches_arn("arn:aws:iam:*:role/team/app", role));
        assert!(!matches_arn("arn:aws:*", role));
        assert!(!matches_arn("*", role));
        assert!(matches_arn("arn:aws:eks:*:*:*", "arn:aws:eks:eu-west-1:1:a:b:c"));
    }
}
