//! SQL and PL/pgSQL cut into tokens, for tests that read the shipped SQL as text: comments are gone, literals are whole.

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A name, a keyword or a number, in lower case.
    Word(String),
    /// What is between quotes, single or dollar, as it is written.
    Text(String),
    /// Any other character.
    Symbol(char),
}

impl Token {
    /// The word, if it is one; else empty.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Word(word) => word,
            _ => "",
        }
    }

    /// Whether it is this character.
    #[must_use]
    pub fn is(&self, symbol: char) -> bool {
        *self == Self::Symbol(symbol)
    }
}

/// The tokens of a text.
#[must_use]
pub fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            _ if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |at| at + 2)),
            '\'' | '"' => {
                let length = quoted_length(rest, first);
                let inner = rest
                    .get(1..length.saturating_sub(1))
                    .unwrap_or_default()
                    .to_owned();
                let token = if first == '"' {
                    Token::Word(inner)
                } else {
                    Token::Text(inner)
                };
                (Some(token), length)
            }
            '$' => match dollar_quoted(rest) {
                Some((inner, length)) => (Some(Token::Text(inner.to_owned())), length),
                None => (Some(Token::Symbol('$')), 1),
            },
            _ if is_of_word(first) => {
                let length = rest.find(|next| !is_of_word(next)).unwrap_or(rest.len());
                (Some(Token::Word(rest[..length].to_lowercase())), length)
            }
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ => (Some(Token::Symbol(first)), first.len_utf8()),
        };
        found.extend(token);
        rest = &rest[length..];
    }
    found
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The length of a quoted text with its quotes; a doubled quote is part of it.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// What is between `$tag$` and the same again, and the length of it all.
fn dollar_quoted(text: &str) -> Option<(&str, usize)> {
    let tag_end = 1 + text[1..].find('$')?;
    let tag = &text[..=tag_end];
    let name = &tag[1..tag_end];
    if !name.chars().all(is_of_word) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let inner = &text[tag.len()..];
    let inner = &inner[..inner.find(tag)?];
    Some((inner, inner.len() + 2 * tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_literals_stay_whole() {
        let text = "select $1, 'it''s', $x$a 'b'$x$ -- c\n from /* d */ \"E\".f";
        let word = |word: &str| Token::Word(word.to_owned());
        let text_of = |text: &str| Token::Text(text.to_owned());
        assert_eq!(
            tokens(text),
            [
                word("select"),
                Token::Symbol('$'),
                word("1"),
                Token::Symbol(','),
                text_of("it''s"),
                Token::Symbol(','),
                text_of("a 'b'"),
                word("from"),
                word("E"),
                Token::Symbol('.'),
                word("f"),
            ]
        );
    }
}
