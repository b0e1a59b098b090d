//! From text to the binary form, guided by the message tables.

use super::super::limits::MAX_TEXT_DEPTH;
use super::super::proto::UnknownField;
use super::super::rewrite;
use super::super::schema::{Enum, Field, Kind, Message};
use super::super::unknown::{self, Unknown};
use super::lexer::{Lexer, Position, Token};
use super::literal;
use prost::Message as _;
use skimjit_host::octets;
use skimjit_models::{Error, Result};

/// Strings that are paths. Their bytes would be a file's name on one computer and nothing on another.
const PATHS: [&str; 16] = [
    "file_name",
    "label_map_file",
    "learned_net",
    "mean_file",
    "meanfile",
    "name_size_file",
    "net",
    "output_directory",
    "output_name_prefix",
    "root_folder",
    "save_file",
    "snapshot_prefix",
    "source",
    "test_net",
    "train_net",
    "weights",
];

/// A text in the form of a binary file.
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// Unknown fields, which are in the lists of their messages too.
    pub unknown: Vec<Unknown>,
    /// Where strings are not UTF-8.
    pub odd_strings: Vec<Position>,
}

/// Encodes a whole text as one message.
pub(super) fn encode(text: &[u8], message: &'static Message) -> Result<Encoded> {
    let mut parser = Parser::new(text)?;
    let mut bytes = Vec::new();
    parser.fields(Some(message), None, &mut bytes)?;
    Ok(Encoded {
        bytes,
        unknown: parser.unknown,
        odd_strings: parser.odd_strings,
    })
}

/// Names of the fields outside all braces, up to the first fault.
pub(super) fn top_level_fields(text: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut parser) = Parser::new(text) else {
        return names;
    };
    while let Token::Identifier(name) = parser.token {
        names.push(name.to_owned());
        let skipped = parser.take().and_then(|_| parser.value_of_unknown());
        if skipped.and_then(|()| parser.separator()).is_err() {
            break;
        }
    }
    names
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next token, not yet taken.
    token: Token<'a>,
    position: Position,
    /// Names of the fields that the next token is inside of.
    path: Vec<&'a str>,
    unknown: Vec<Unknown>,
    odd_strings: Vec<Position>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8]) -> Result<Self> {
        let mut lexer = Lexer::new(text);
        let (token, position) = lexer.next()?;
        Ok(Self {
            lexer,
            token,
            position,
            path: Vec::new(),
            unknown: Vec::new(),
            odd_strings: Vec::new(),
        })
    }

    /// Takes the next token.
    fn take(&mut self) -> Result<Token<'a>> {
        let (token, position) = self.lexer.next()?;
        self.position = position;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Takes the next token when it is this symbol.
    fn accept(&mut self, symbol: u8) -> Result<bool> {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn separator(&mut self) -> Result<()> {
        if !self.accept(b',')? {
            self.accept(b';')?;
        }
        Ok(())
    }

    /// An error at the next token.
    fn unexpected(&self, expected: impl Into<String>) -> Error {
        let error = Error::new(self.token.describe())
            .position(self.position.0, self.position.1)
            .expected(expected);
        if self.path.is_empty() {
            error
        } else {
            error.field(self.path.join("."))
        }
    }

    /// Fields up to `close`, or to the end of the text. Without a message they are skipped.
    fn fields(
        &mut self,
        message: Option<&'static Message>,
        close: Option<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut seen = vec![None; message.map_or(0, |message| message.fields.len())];
        loop {
            match (&self.token, close) {
                (Token::End, None) => return Ok(()),
                (Token::Symbol(symbol), Some(close)) if *symbol == close => {
                    return self.take().map(drop);
                }
                (Token::Identifier(name), _) => {
                    let name = *name;
                    self.path.push(name);
                    self.field(name, message, &mut seen, out)?;
                    self.path.pop();
                    self.separator()?;
                }
                (_, Some(close)) => {
                    let close = char::from(close);
                    return Err(self.unexpected(format!("a field name or {close:?}")));
                }
                (_, None) => return Err(self.unexpected("a field name")),
            }
        }
    }

    fn field(
        &mut self,
        name: &'a str,
        message: Option<&'static Message>,
        seen: &mut [Option<Position>],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let known = message.and_then(|message| message.by_name(name));
        let Some((index, field)) = known else {
            if let Some(message) = message {
                self.note_unknown(name, message, out);
            }
            self.take()?;
            return self.value_of_unknown();
        };
        if let Some(slot) = seen.get_mut(index).filter(|_| !field.repeated) {
            if let Some((line, column)) = *slot {
                return Err(Error::new(format!("{name} a second time"))
                    .position(self.position.0, self.position.1)
                    .field(self.path.join("."))
                    .expected(format!("one, as on line {line}, column {column}")));
            }
            *slot = Some(self.position);
        }
        self.take()?;
        let colon = self.accept(b':')?;
        let is_message = matches!(field.kind, Kind::Message(_));
        if !colon && !is_message {
            return Err(self.unexpected("\":\" and a value"));
        }
        if field.repeated && self.accept(b'[')? {
            return self.list(|parser| parser.element(field, out));
        }
        self.element(field, out)
    }

    /// Keeps the name and the place of an unknown field with its message.
    fn note_unknown(&mut self, name: &str, message: &'static Message, out: &mut Vec<u8>) {
        let (line, column) = self.position;
        self.unknown.push(Unknown {
            path: self
                .path
                .split_last()
                .map_or_else(String::new, |(_, outer)| outer.join(".")),
            message: message.name.to_owned(),
            name: name.to_owned(),
            position: Some(self.position),
        });
        let record = UnknownField {
            name: Some(name.to_owned()),
            line: Some(line),
            column: Some(column),
            ..UnknownField::default()
        };
        rewrite::put(out, unknown::NUMBER, &record.encode_to_vec());
    }

    /// Elements up to `]`, of which the `[` has been taken.
    fn list(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.accept(b']')? {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.accept(b']')? {
                return Ok(());
            }
            if !self.accept(b',')? {
                return Err(self.unexpected("\",\" or \"]\""));
            }
        }
    }

    /// One value with its key.
    fn element(&mut self, field: &Field, out: &mut Vec<u8>) -> Result<()> {
        put_varint(
            out,
            u64::from(field.file_number()) << 3 | u64::from(field.kind.wire_type()),
        );
        match field.kind {
            Kind::Message(index) => {
                let mut contents = Vec::new();
                self.braces(Some(Message::get(index)), &mut contents)?;
                put_bytes(out, &contents);
            }
            Kind::string => put_bytes(out, &self.text(field)?),
            Kind::bytes => put_bytes(out, &self.string(field.kind)?),
            Kind::Enum(index) => put_varint(out, self.enum_value(Enum::get(index))? as u64),
            Kind::float => out.extend_from_slice(&(self.float(field.kind)? as f32).to_le_bytes()),
            Kind::double => out.extend_from_slice(&self.float(field.kind)?.to_le_bytes()),
            Kind::bool | Kind::int32 | Kind::int64 | Kind::uint32 => {
                put_varint(out, self.integer(field.kind)?);
            }
        }
        Ok(())
    }

    /// A message in braces or angle brackets.
    fn braces(&mut self, message: Option<&'static Message>, out: &mut Vec<u8>) -> Result<()> {
        let close = match self.token {
            Token::Symbol(b'{') => b'}',
            Token::Symbol(b'<') => b'>',
            _ => return Err(self.unexpected("\"{\"")),
        };
        if self.path.len() > MAX_TEXT_DEPTH {
            let error = Error::new(format!("messages {} deep", self.path.len()));
            return Err(error
                .position(self.position.0, self.position.1)
                .expected(format!("at most {MAX_TEXT_DEPTH}")));
        }
        self.take()?;
        self.fields(message, Some(close), out)
    }

    /// Skips what follows the name of an unknown field.
    fn value_of_unknown(&mut self) -> Result<()> {
        let colon = self.accept(b':')?;
        if self.accept(b'[')? {
            return self.list(Self::unknown);
        }
        match self.token {
            Token::Symbol(b'{' | b'<') => self.unknown(),
            _ if colon => self.unknown(),
            _ => Err(self.unexpected("\":\" and a value, or \"{\"")),
        }
    }

    /// Skips one value of an unknown field.
    fn unknown(&mut self) -> Result<()> {
        if matches!(self.token, Token::Symbol(b'{' | b'<')) {
            return self.braces(None, &mut Vec::new());
        }
        if matches!(self.token, Token::String(_)) {
            return self.string(Kind::bytes).map(drop);
        }
        self.accept(b'-')?;
        match self.token {
            Token::Identifier(_) | Token::Number(_) => self.take().map(drop),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// A string of one or several parts.
    fn string(&mut self, kind: Kind) -> Result<Vec<u8>> {
        let mut bytes = match &mut self.token {
            Token::String(bytes) => std::mem::take(bytes),
            _ => return Err(self.unexpected(literal::expected(kind))),
        };
        self.take()?;
        while let Token::String(more) = &self.token {
            bytes.extend_from_slice(more);
            self.take()?;
        }
        Ok(bytes)
    }

    /// A string, which may be in any encoding unless it is a path.
    fn text(&mut self, field: &Field) -> Result<Vec<u8>> {
        let start = self.position;
        let bytes = self.string(field.kind)?;
        if octets::are_text(&bytes) {
            return Ok(bytes);
        }
        if PATHS.contains(&field.name) {
            return Err(Error::new("a path that is not UTF-8")
                .position(start.0, start.1)
                .field(self.path.join("."))
                .expected("UTF-8")
                .hint("name the file in ASCII, or save this one as UTF-8"));
        }
        self.odd_strings.push(start);
        Ok(bytes)
    }

    fn integer(&mut self, kind: Kind) -> Result<u64> {
        let wrong = self.unexpected(literal::expected(kind));
        let negative = self.accept(b'-')?;
        let value = match self.token {
            Token::Number(text) => {
                literal::integer(text).and_then(|value| literal::varint(kind, negative, value))
            }
            Token::Identifier(word) if kind == Kind::bool && !negative => {
                literal::boolean(word).map(u64::from)
            }
            _ => None,
        };
        let value = value.ok_or(wrong)?;
        self.take()?;
        Ok(value)
    }

    fn float(&mut self, kind: Kind) -> Result<f64> {
        let wrong = self.unexpected(literal::expected(kind));
        let negative = self.accept(b'-')?;
        let value = match self.token {
            Token::Number(text) => literal::float(text),
            Token::Identifier(word) => literal::special_float(word),
            _ => None,
        };
        let value = value.ok_or(wrong)?;
        self.take()?;
        Ok(if negative { -value } else { value })
    }

    /// A value by name or number, sign-extended as the encoding wants it.
    fn enum_value(&mut self, of: &Enum) -> Result<i64> {
        let names = || {
            of.values
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let wrong = self.unexpected(format!("one of {}", names()));
        let number = match self.token {
            Token::Identifier(name) => of.number(name),
            Token::Number(text) => literal::integer(text)
                .and_then(|number| i32::try_from(number).ok())
                .filter(|&number| of.has(number)),
            _ => None,
        };
        let number = number.ok_or(wrong)?;
        self.take()?;
        Ok(number.into())
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
