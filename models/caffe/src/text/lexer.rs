//! Tokens of the text format, with their positions.

use skimjit_models::{Error, Result};

/// Line and column, both from 1; a column is a character, whatever its bytes.
pub(super) type Position = (u32, u32);

/// One token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    Identifier(&'a str),
    /// Digits with everything that can be part of a number.
    Number(&'a str),
    /// Contents with escapes resolved.
    String(Vec<u8>),
    /// Punctuation.
    Symbol(u8),
    /// End of the text.
    End,
}

impl Token<'_> {
    /// How an error names the token.
    pub fn describe(&self) -> String {
        match self {
            Self::Identifier(text) | Self::Number(text) => format!("{:?}", shortened(text)),
            Self::String(bytes) => {
                format!(
                    "the string {:?}",
                    shortened(&String::from_utf8_lossy(bytes))
                )
            }
            Self::Symbol(byte) => format!("{:?}", char::from(*byte)),
            Self::End => "the end of the text".to_owned(),
        }
    }
}

/// The start of a text, for error messages.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Splits a text into tokens.
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        let rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Self {
            rest,
            line: 1,
            column: 1,
        }
    }

    /// Where the next unread byte is.
    pub fn position(&self) -> Position {
        (self.line, self.column)
    }

    /// The next token and where it starts.
    pub fn next(&mut self) -> Result<(Token<'a>, Position)> {
        self.skip_blanks();
        let start = self.position();
        let token = match self.rest.first() {
            None => Token::End,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                Token::Identifier(self.word(|byte, _| byte.is_ascii_alphanumeric() || byte == b'_'))
            }
            Some(b'0'..=b'9') => Token::Number(self.number()),
            Some(b'.') if self.rest.get(1).is_some_and(u8::is_ascii_digit) => {
                Token::Number(self.number())
            }
            Some(&quote @ (b'"' | b'\'')) => Token::String(self.string(quote)?),
            Some(&byte @ (b':' | b'{' | b'}' | b'<' | b'>' | b'[' | b']' | b',' | b';' | b'-')) => {
                self.advance();
                Token::Symbol(byte)
            }
            Some(&byte) => {
                let found = match byte {
                    0x20..0x7f => format!("{:?}", char::from(byte)),
                    _ => format!("the byte {byte:#04x}"),
                };
                return Err(Error::new(found)
                    .position(start.0, start.1)
                    .expected("a name, a value or punctuation"));
            }
        };
        Ok((token, start))
    }

    fn advance(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        match byte {
            b'\n' => (self.line, self.column) = (self.line.saturating_add(1), 1),
            // Continuation bytes of UTF-8 are no characters of their own.
            0x80..=0xbf => {}
            _ => self.column = self.column.saturating_add(1),
        }
        Some(byte)
    }

    fn skip(&mut self, bytes: usize) {
        for _ in 0..bytes {
            self.advance();
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(&byte) = self.rest.first() {
            if byte == b'#' {
                while self.rest.first().is_some_and(|&byte| byte != b'\n') {
                    self.advance();
                }
            } else if byte.is_ascii_whitespace() || byte == 0x0b {
                self.advance();
            } else {
                return;
            }
        }
    }

    /// The longest run whose bytes (with the byte before each) belong together; all are ASCII.
    fn word(&mut self, belongs: impl Fn(u8, u8) -> bool) -> &'a str {
        let text = self.rest;
        let mut last = 0;
        let length = text
            .iter()
            .take_while(|&&byte| {
                let take = byte.is_ascii() && belongs(byte, last);
                last = byte;
                take
            })
            .count();
        self.skip(length);
        std::str::from_utf8(text.get(..length).unwrap_or_default()).unwrap_or_default()
    }

    fn number(&mut self) -> &'a str {
        let hexadecimal = matches!(self.rest, [b'0', b'x' | b'X', ..]);
        self.word(|byte, last| {
            let exponent = !hexadecimal && matches!(last, b'e' | b'E');
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'_')
                || (exponent && matches!(byte, b'+' | b'-'))
        })
    }

    fn string(&mut self, quote: u8) -> Result<Vec<u8>> {
        let start = self.position();
        self.advance();
        let mut bytes = Vec::new();
        loop {
            match self.advance() {
                Some(byte) if byte == quote => return Ok(bytes),
                Some(b'\\') => self.escape(&mut bytes)?,
                Some(b'\n') | None => {
                    return Err(Error::new("a string without end")
                        .position(start.0, start.1)
                        .expected(format!("{} on the same line", char::from(quote))));
                }
                Some(byte) => bytes.push(byte),
            }
        }
    }

    /// One escape, after its backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let (line, column) = self.position();
        let byte = self.advance();
        let plain = match byte {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'a') => 0x07,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'v') => 0x0b,
            Some(byte @ (b'\\' | b'\'' | b'"' | b'?')) => byte,
            Some(first @ b'0'..=b'7') => {
                let more = self.digits(2, 8);
                // As in C, three octal digits may not exceed a byte; what does is cut off.
                (u32::from(first - b'0') * 8u32.pow(more.len() as u32) + value(&more, 8)) as u8
            }
            Some(b'x' | b'X') => match self.digits(2, 16) {
                digits if !digits.is_empty() => value(&digits, 16) as u8,
                _ => return Err(bad_escape(line, column)),
            },
            Some(kind @ (b'u' | b'U')) => {
                let length = if kind == b'u' { 4 } else { 8 };
                let digits = self.digits(length, 16);
                let character = char::from_u32(value(&digits, 16));
                let character = character.filter(|_| digits.len() == length);
                let character = character.ok_or_else(|| bad_escape(line, column))?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(bad_escape(line, column)),
        };
        bytes.push(plain);
        Ok(())
    }

    /// Up to `most` digits of a base.
    fn digits(&mut self, most: usize, base: u32) -> Vec<u8> {
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(base);
        let digits: Vec<u8> = self
            .rest
            .iter()
            .take(most)
            .take_while(is_digit)
            .copied()
            .collect();
        self.skip(digits.len());
        digits
    }
}

fn value(digits: &[u8], base: u32) -> u32 {
    let digit = |&byte: &u8| char::from(byte).to_digit(base).unwrap_or(0);
    digits.iter().map(digit).fold(0, |value, digit| {
        value.wrapping_mul(base).wrapping_add(digit)
    })
}

fn bad_escape(line: u32, column: u32) -> Error {
    Error::new("an unknown escape in a string")
        .position(line, column)
        .expected(r#"one of \n \r \t \a \b \f \v \\ \' \" \? \000 \x00 \u0000 \U00000000"#)
}
