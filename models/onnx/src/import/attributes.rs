//! Attributes of a node, each with its type.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, NodeProto, SparseTensorProto, TensorProto};
use skimjit_models::{Error, Result};

/// The attributes of a node that its converter knows; others have been refused.
pub(crate) struct Attributes<'a>(Vec<&'a AttributeProto>);

impl<'a> Attributes<'a> {
    /// Refuses attributes that are not `known`, a list of words, and those that are there twice.
    pub fn of(node: &'a NodeProto, known: &str) -> Result<Self> {
        let mut found: Vec<&AttributeProto> = Vec::new();
        for attribute in &node.attribute {
            let name = attribute.name();
            if !known.split(' ').any(|known| known == name) {
                let expected = match known {
                    "" => "no attributes".to_owned(),
                    _ => format!("one of: {}", known.replace(' ', ", ")),
                };
                return Err(Error::new("an unknown attribute")
                    .field(name)
                    .expected(expected));
            }
            if found.iter().any(|other| other.name() == name) {
                return Err(Error::new("an attribute twice")
                    .field(name)
                    .expected("each once"));
            }
            if attribute.ref_attr_name.is_some() {
                return Err(Error::new("an attribute of a function")
                    .field(name)
                    .expected("a value"));
            }
            found.push(attribute);
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>> {
        let Some(attribute) = self.0.iter().find(|one| one.name() == name) else {
            return Ok(None);
        };
        // Files of IR 1 do not say the type.
        match attribute.r#type() {
            found if found == kind || found == AttributeType::Undefined => Ok(Some(attribute)),
            found => Err(
                Error::new(format!("a value of type {}", found.as_str_name()))
                    .field(name)
                    .expected(kind.as_str_name()),
            ),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|one| one.name() == name)
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.get(name, AttributeType::Int)?.map(|one| one.i()))
    }

    /// 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name)? {
            None => Ok(default),
            Some(value @ (0 | 1)) => Ok(value == 1),
            Some(other) => Err(Error::new(other.to_string()).field(name).expected("0 or 1")),
        }
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        let found = self.get(name, AttributeType::Float)?;
        Ok(found.map_or(default, |one| one.f()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>> {
        let found = self.get(name, AttributeType::Floats)?;
        Ok(found.map(|one| one.floats.as_slice()))
    }

    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        let found = self.get(name, AttributeType::Ints)?;
        Ok(found.map(|one| one.ints.as_slice()))
    }

    pub fn text(&self, name: &str, default: &'a str) -> Result<&'a str> {
        match self.get(name, AttributeType::String)? {
            None => Ok(default),
            Some(one) => text(one.s.as_deref().unwrap_or_default(), name),
        }
    }

    pub fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(found) = self.get(name, AttributeType::Strings)? else {
            return Ok(None);
        };
        found
            .strings
            .iter()
            .map(|one| text(one, name))
            .collect::<Result<_>>()
            .map(Some)
    }

    /// One of the words; the first is the default.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&'static str, T)]) -> Result<T> {
        let word = self.text(name, choices[0].0)?;
        let found = choices.iter().find(|(choice, _)| *choice == word);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Error::new(format!("{word:?}"))
                .field(name)
                .expected(format!("one of: {}", words.join(", ")))
        })
    }

    pub fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>> {
        Ok(self
            .get(name, AttributeType::Tensor)?
            .and_then(|one| one.t.as_ref()))
    }

    pub fn sparse_tensor(&self, name: &str) -> Result<Option<&'a SparseTensorProto>> {
        let found = self.get(name, AttributeType::SparseTensor)?;
        Ok(found.and_then(|one| one.sparse_tensor.as_ref()))
    }
}

fn text<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| {
        Error::new("bytes that are no UTF-8 text")
            .field(name)
            .expected("text")
    })
}
