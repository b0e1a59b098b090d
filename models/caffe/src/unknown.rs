//! Fields that the message tables do not know. They stay with the message that they are in, so that an
//! import can refuse them and a file that is written back has them.
//!
//! Every message has a list of them, as a field whose number no file uses. From a text it holds names
//! and positions; from a binary file the bytes, which come back at the end of their message, where
//! Google's library writes them too.

use super::proto::{LayerParameter, NetParameter, SolverParameter, UnknownField};
use super::rewrite::{Raw, Rewriting, put};
use super::schema::{Kind, Message};
use super::schema_table::{MESSAGES, NET_PARAMETER, SOLVER_PARAMETER};
use prost::Message as _;
use skimjit_models::Warning;
use skimjit_models::closest;
use skimjit_models::{Error, Result};
use std::collections::HashMap;

/// Number of the list in every message, the largest that the format allows.
pub(super) const NUMBER: u32 = (1 << 29) - 1;

/// An unknown field and the message it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// Fields from where the search began to the message that has it: `param[1]`, or empty.
    pub path: String,
    /// The type of that message.
    pub message: String,
    /// The name, or the number in a binary file.
    pub name: String,
    /// Line and column in a text, from 1.
    pub position: Option<(u32, u32)>,
}

impl Unknown {
    /// A known field that it may be a misspelling of.
    pub fn closest(&self) -> Option<&'static str> {
        let message = MESSAGES
            .iter()
            .find(|message| message.name == self.message)?;
        self.position?;
        closest(&self.name, message.fields.iter().map(|field| field.name))
    }

    /// What keeps a network from being used.
    pub fn error(&self) -> Error {
        const IGNORE: &str = "--ignore-unknown-fields reads the network without it";
        let hint = match self.closest() {
            Some(closest) => format!("the closest is {closest}; {IGNORE}"),
            None => IGNORE.to_owned(),
        };
        let error = match self.position {
            None => Error::new(format!("unknown field {} of {}", self.name, self.message))
                .field(self.path.clone()),
            Some((line, column)) => {
                let dot = if self.path.is_empty() { "" } else { "." };
                Error::new(format!("an unknown field of {}", self.message))
                    .field(format!("{}{dot}{}", self.path, self.name))
                    .position(line, column)
            }
        };
        let error = error.expected("fields whose meaning is known").hint(hint);
        match error.field.as_deref() {
            Some("") => Error {
                field: None,
                ..error
            },
            _ => error,
        }
    }

    /// What is said of one that is ignored and was there so many times.
    pub(super) fn warning(&self, times: usize) -> Warning {
        let name = match self.position {
            Some(_) => format!("{:?}", self.name),
            None => self.name.clone(),
        };
        let mut text = format!("unknown field {name} of {}", self.message);
        if times > 1 {
            text += &format!(", {times} times");
        }
        if let Some(closest) = self.closest() {
            text += &format!("; the closest is {closest:?}");
        }
        let warning = Warning::new(text);
        match self.position {
            Some((line, column)) => warning.position(line, column),
            None => warning,
        }
    }
}

/// One warning for each name or number in each type of message, at its first place.
pub fn warnings(unknown: &[Unknown]) -> Vec<Warning> {
    let mut order: Vec<(&Unknown, usize)> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for one in unknown {
        let next = order.len();
        let place = *places.entry((&one.message, &one.name)).or_insert(next);
        match order.get_mut(place) {
            Some((_, times)) => *times += 1,
            None => order.push((one, 1)),
        }
    }
    let warn = |(one, times): (&Unknown, usize)| one.warning(times);
    order.into_iter().map(warn).collect()
}

/// Unknown fields of a layer, those of its parameters included. Its blobs are searched too, which costs
/// a copy of them.
pub fn of_layer(layer: &LayerParameter) -> Vec<Unknown> {
    let table = MESSAGES
        .iter()
        .find(|message| message.name == "LayerParameter");
    table.map_or_else(Vec::new, |table| of(layer, table))
}

/// The same of a network.
pub fn of_net(net: &NetParameter) -> Vec<Unknown> {
    of(net, NET_PARAMETER)
}

/// Unknown fields of a solver definition, those of networks inside of it included.
pub fn of_solver(solver: &SolverParameter) -> Vec<Unknown> {
    of(solver, SOLVER_PARAMETER)
}

fn of(message: &impl prost::Message, table: &'static Message) -> Vec<Unknown> {
    let mut found = Vec::new();
    find(&message.encode_to_vec(), table, "", &mut found);
    found
}

/// Refuses a network of which a layer has an unknown field, which may change what the layer means.
pub fn refuse_in_layers(net: &NetParameter) -> Result<()> {
    for layer in &net.layer {
        if let Some(unknown) = of_layer(layer).first() {
            return Err(unknown.error().layer(layer.name()));
        }
    }
    Ok(())
}

/// What to do about fields that cannot be written.
pub const LEAVE_OUT: &str = "--ignore-unknown-fields leaves unknown fields out of what is written";

/// Refuses a network without blobs that has unknown fields anywhere, which a text of it would lack.
pub fn refuse_in_text(net: &NetParameter) -> Result<()> {
    match of_net(net).first() {
        None => Ok(()),
        Some(first) => Err(first.error().hint(LEAVE_OUT)),
    }
}

/// Refuses a network whose layers have unknown fields from an older form, which have no place in
/// today's.
pub fn refuse_moved(net: &NetParameter) -> Result<()> {
    for layer in &net.layer {
        let is_moved = |record: &&UnknownField| record.of.is_some() && record.encoded.is_some();
        if let Some(record) = layer.unknown_fields.iter().find(is_moved) {
            return Err(lost(record.clone()).layer(layer.name()));
        }
    }
    Ok(())
}

/// Forgets the unknown fields that [`refuse_moved`] refuses.
pub fn forget_moved(net: &mut NetParameter) {
    for layer in &mut net.layer {
        layer.unknown_fields.retain(|record| record.of.is_none());
    }
}

/// Forgets the unknown fields of a network, which then is one without them.
pub fn forget(net: &mut NetParameter) {
    let drop_all = |_: UnknownField| Some(Vec::new());
    if let Ok(Some(bytes)) = scatter(&net.encode_to_vec(), NET_PARAMETER, &drop_all)
        && let Ok(without) = NetParameter::decode(bytes.as_slice())
    {
        *net = without;
    }
}

/// Marks unknown fields whose message becomes another one: their numbers mean nothing there.
pub(super) fn moved(mut fields: Vec<UnknownField>, from: &str) -> Vec<UnknownField> {
    for field in &mut fields {
        field.of.get_or_insert_with(|| from.to_owned());
    }
    fields
}

fn find(bytes: &[u8], message: &'static Message, path: &str, found: &mut Vec<Unknown>) {
    let mut counts = vec![0; message.fields.len()];
    let mut rest = bytes;
    while let Some(raw) = Raw::next(&mut rest) {
        if raw.number == NUMBER {
            // This program has encoded it.
            let record = UnknownField::decode(raw.contents).unwrap_or_default();
            found.extend(named(record, message, path));
            continue;
        }
        let Some((index, field)) = raw.known(message) else {
            continue;
        };
        let Kind::Message(inner) = field.kind else {
            continue;
        };
        let dot = if path.is_empty() { "" } else { "." };
        let mut inside = format!("{path}{dot}{}", field.name);
        if let (true, Some(count)) = (field.repeated, counts.get_mut(index)) {
            inside += &format!("[{count}]");
            *count += 1;
        }
        find(raw.contents, Message::get(inner), &inside, found);
    }
}

/// What a record holds: one name, or the numbers of a binary file, each once.
fn named(record: UnknownField, message: &'static Message, path: &str) -> Vec<Unknown> {
    let of = record.of.clone();
    let unknown = |name: String, position| Unknown {
        path: path.to_owned(),
        message: of.clone().unwrap_or_else(|| message.name.to_owned()),
        name,
        position,
    };
    if let Some(name) = &record.name {
        let position = Some((record.line(), record.column()));
        return vec![unknown(name.clone(), position)];
    }
    let mut numbers = Vec::new();
    let mut rest = record.encoded();
    while let Some(raw) = Raw::next(&mut rest) {
        if !numbers.contains(&raw.number) {
            numbers.push(raw.number);
        }
    }
    let unknown = |number: u32| unknown(number.to_string(), None);
    numbers.into_iter().map(unknown).collect()
}

/// The message with the unknown fields of every message gathered in its list. `None`: there are none.
pub(super) fn gather(bytes: &[u8], message: &'static Message) -> Option<Vec<u8>> {
    let mut made = Rewriting::of(bytes);
    let mut unknown = Vec::new();
    let mut rest = bytes;
    while let Some(raw) = Raw::next(&mut rest) {
        let inner = match raw.known(message) {
            None => {
                made.changed(rest, &raw);
                unknown.extend_from_slice(raw.all);
                continue;
            }
            Some((_, field)) => match field.kind {
                Kind::Message(inner) => gather(raw.contents, Message::get(inner)),
                _ => None,
            },
        };
        match inner {
            Some(contents) => put(made.changed(rest, &raw), raw.number, &contents),
            None => made.unchanged(&raw),
        }
    }
    if !unknown.is_empty() {
        let record = UnknownField {
            encoded: Some(unknown),
            ..UnknownField::default()
        };
        let out = made.out.get_or_insert_default();
        put(out, NUMBER, &record.encode_to_vec());
    }
    made.out
}

/// The bytes of a file for a message that this program encoded: the lists of unknown fields become
/// what they were. `None`: there are none.
pub(super) fn restore(bytes: &[u8], message: &'static Message) -> Result<Option<Vec<u8>>> {
    // Whoever read a text has told of the names, which have no numbers.
    let kept = |record: UnknownField| match record.of {
        Some(_) if record.encoded.is_some() => None,
        _ => Some(record.encoded.unwrap_or_default()),
    };
    scatter(bytes, message, &kept)
}

/// Replaces the records of the lists by what `kept` says; `None` of it is an error.
fn scatter(
    bytes: &[u8],
    message: &'static Message,
    kept: &dyn Fn(UnknownField) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let mut made = Rewriting::of(bytes);
    let mut rest = bytes;
    while let Some(raw) = Raw::next(&mut rest) {
        if raw.number == NUMBER {
            let record = UnknownField::decode(raw.contents).unwrap_or_default();
            let encoded = kept(record.clone()).ok_or_else(|| lost(record))?;
            made.changed(rest, &raw).extend_from_slice(&encoded);
            continue;
        }
        let inner = match raw.known(message) {
            Some((_, field)) => match field.kind {
                Kind::Message(inner) => scatter(raw.contents, Message::get(inner), kept)?,
                _ => None,
            },
            None => None,
        };
        match inner {
            Some(contents) => put(made.changed(rest, &raw), raw.number, &contents),
            None => made.unchanged(&raw),
        }
    }
    Ok(made.out)
}

fn lost(record: UnknownField) -> Error {
    let unknown = named(record, NET_PARAMETER, "");
    let what = unknown
        .first()
        .map(|one| format!("unknown field {} of {}", one.name, one.message));
    Error::new(what.unwrap_or_default())
        .expected("fields that have a place in today's form")
        .hint("`skimjit upgrade --ignore-unknown-fields` drops them")
}
