//! Patterns that a person writes for repositories and source addresses. Pure.
//!
//! `*` stands for any run of characters without `/`, `**` for any run at all; everything else is itself. The whole
//! text has to match. Matching is linear in pattern × text: there is no backtracking that a hostile name could feed.

use std::fmt;

/// Characters of one pattern.
const PATTERN_LENGTH_MAX: usize = 512;

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    Segment,
    Anything,
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum PatternError {
    #[error("an empty pattern matches nothing")]
    Empty,
    #[error("the pattern is longer than {PATTERN_LENGTH_MAX} characters")]
    TooLong,
    #[error("`***` means nothing; write `*` (within one part) or `**` (across parts)")]
    Stars,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_LENGTH_MAX {
            return Err(PatternError::TooLong);
        }
        if text.contains("***") {
            return Err(PatternError::Stars);
        }
        let mut tokens = Vec::new();
        for character in text.chars() {
            match (character, tokens.last()) {
                ('*', Some(Token::Segment)) => {
                    tokens.pop();
                    tokens.push(Token::Anything);
                }
                ('*', _) => tokens.push(Token::Segment),
                (other, _) => tokens.push(Token::One(other)),
            }
        }
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        // reached[n]: the first n tokens match what was read so far.
        let mut reached = vec![false; self.tokens.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for character in text.chars() {
            let mut next = vec![false; reached.len()];
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match token {
                    Token::One(expected) => next[at + 1] |= *expected == character,
                    Token::Segment => next[at] |= character != '/',
                    Token::Anything => next[at] = true,
                }
            }
            self.skip_stars(&mut next);
            reached = next;
        }
        reached.last().copied().unwrap_or(false)
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if reached[at] && !matches!(token, Token::One(_)) {
                reached[at + 1] = true;
            }
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_as_written() {
        for (pattern, text, matches) in [
            ("shop/*", "shop/api", true),
            ("shop/*", "shop/api/debug", false),
            ("shop/*", "shop", false),
            ("shop/*", "shop/", true),
            ("shop/**", "shop/api/debug", true),
            ("**", "a/b/c", true),
            ("*", "a/b", false),
            ("*/api", "shop/api", true),
            ("https://git.example/shop/*", "https://git.example/shop/api", true),
            ("https://git.example/shop/*", "https://git.example.test/shop/api", false),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("shop/api", "shop/api", true),
            ("shop/api", "shop/apis", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_stay_linear() {
        let pattern = Pattern::parse(&"a*".repeat(200)).unwrap();
        assert!(!pattern.matches(&format!("{}b/", "a".repeat(5_000))));
    }

    #[test]
    fn empty_and_triple_star_are_refused() {
        assert!(Pattern::parse("").is_err());
        assert!(Pattern::parse("a***").is_err());
    }
}
