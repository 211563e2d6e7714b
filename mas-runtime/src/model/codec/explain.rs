//! Where and why bytes are not what was asked for, in words that quote nothing of them: an error may be logged, a payload
//! may not.
//!
//! The type is read once more, out of a [`Tree`]. This reader's errors are made here, from what serde and the type say:
//! names of fields and variants are the type's own and are told, kinds of values as well. Values, keys of maps and the
//! texts that a type writes itself are not.

use std::fmt;
use std::slice;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::Tree;
use super::{Codec, CodecError};

/// What stands for a key that is no field of a type.
pub(super) const SOME_KEY: &str = "*";

/// Why `bytes` are no `T`.
pub(super) fn explain<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> CodecError {
    let tree = match Tree::read(codec, bytes) {
        Ok(tree) => tree,
        Err(error) => return error,
    };
    let node = Node {
        tree: &tree,
        json: codec == Codec::Json,
        is_key: false,
    };
    match T::deserialize(node) {
        Err(Fault { path, reason }) => CodecError::Decode {
            path: path.to_string(),
            reason,
        },
        // The encoding's own reader is stricter.
        Ok(_) => CodecError::Decode {
            path: String::new(),
            reason: "its type expects other bytes for the same value".to_owned(),
        },
    }
}

/// A place in a value, the innermost step first.
#[derive(Debug, Default)]
pub(super) struct Path(Vec<Step>);

/// One step on the way to a place.
#[derive(Debug)]
pub(super) enum Step {
    Field(&'static str),
    Item(usize),
}

impl Path {
    /// The same place, seen from one step further out.
    pub(super) fn inside(&mut self, step: Step) {
        self.0.push(step);
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().rev().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// What is wrong, and where.
#[derive(Debug)]
struct Fault {
    path: Path,
    reason: String,
}

impl Fault {
    fn new(reason: String) -> Self {
        let path = Path::default();
        Self { path, reason }
    }

    fn inside(mut self, step: Step) -> Self {
        self.path.inside(step);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        // serde's own, followed by the name of a type.
        const UNTAGGED: &str = "data did not match any variant of untagged enum ";
        let text = text.to_string();
        Self::new(match text.strip_prefix(UNTAGGED) {
            Some(name) if name.chars().all(|c| c.is_alphanumeric() || c == '_') => text,
            _ => "its type refuses the value".to_owned(),
        })
    }

    fn invalid_type(came: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid type: {}, expected {expected}", kind(came)))
    }

    fn invalid_value(came: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!(
            "invalid value: {}, expected {expected}",
            kind(came)
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown variant, expected {}", any_of(expected)))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown field, expected {}", any_of(expected)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid length {length}, expected {expected}"))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(format!("missing field `{name}`"))
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::new(format!("duplicate field `{name}`"))
    }
}

/// What came, without what it holds.
fn kind(came: Unexpected<'_>) -> &'static str {
    match came {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "floating point number",
        Unexpected::Char(_) => "character",
        Unexpected::Str(_) => "string",
        Unexpected::Bytes(_) => "byte array",
        Unexpected::Unit => "null",
        Unexpected::Option => "optional value",
        Unexpected::NewtypeStruct => "newtype struct",
        Unexpected::Seq => "sequence",
        Unexpected::Map => "map",
        Unexpected::Enum => "enum",
        Unexpected::UnitVariant => "unit variant",
        Unexpected::NewtypeVariant => "newtype variant",
        Unexpected::TupleVariant => "tuple variant",
        Unexpected::StructVariant => "struct variant",
        // Anybody may put any text in here.
        Unexpected::Other(_) => "another value",
    }
}

fn any_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => format!("`{}`", names.join("` or `")),
    }
}

/// The field of a type, or [`SOME_KEY`].
fn field(key: &Tree, fields: &'static [&'static str]) -> Step {
    let known = fields
        .iter()
        .find(|field| matches!(key, Tree::Text(text) if text == **field));
    Step::Field(known.unwrap_or(&SOME_KEY))
}

/// One value that a type is read from.
#[derive(Clone, Copy)]
struct Node<'de> {
    tree: &'de Tree,
    json: bool,
    is_key: bool,
}

impl<'de> Node<'de> {
    const fn at(self, tree: &'de Tree) -> Self {
        let (json, is_key) = (self.json, false);
        Self { tree, json, is_key }
    }

    fn refused(self, expected: &dyn Expected) -> Fault {
        let came = self.tree.kind();
        Fault::new(format!("invalid type: {came}, expected {expected}"))
    }

    fn list<V: Visitor<'de>>(self, items: &'de [Tree], visitor: V) -> Result<V::Value, Fault> {
        let mut access = Items {
            node: self,
            items: items.iter(),
            next: 0,
        };
        let value = visitor.visit_seq(&mut access)?;
        match access.items.len() {
            0 => Ok(value),
            _ => Err(Error::invalid_length(items.len(), &"fewer elements")),
        }
    }

    fn map<V: Visitor<'de>>(
        self,
        entries: &'de [(Tree, Tree)],
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut access = Entries {
            node: self,
            entries: entries.iter(),
            fields,
            value: None,
        };
        let value = visitor.visit_map(&mut access)?;
        match access.entries.len() {
            0 => Ok(value),
            _ => Err(Error::invalid_length(entries.len(), &"fewer entries")),
        }
    }
}

/// Methods for types whose keys JSON writes as text.
macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            if let (Tree::Text(text), true, true) = (self.tree, self.is_key, self.json) {
                if let Ok(number) = text.parse() {
                    return visitor.visit_u64(number);
                }
                if let Ok(number) = text.parse() {
                    return visitor.visit_i64(number);
                }
                if let Ok(flag) = text.parse() {
                    return visitor.visit_bool(flag);
                }
            }
            self.deserialize_any(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Signed(value) => visitor.visit_i64(*value),
            Tree::Unsigned(value) => visitor.visit_u64(*value),
            Tree::Float(value) => visitor.visit_f64(*value),
            Tree::Text(text) => visitor.visit_borrowed_str(text),
            Tree::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Tree::Extension => Err(self.refused(&visitor)),
            Tree::List(items) => self.list(items, visitor),
            Tree::Map(entries) => self.map(entries, &[], visitor),
        }
    }

    scalars! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Text(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.tree {
            Tree::Map(entries) => self.map(entries, fields, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (name, content) = match self.tree {
            Tree::Text(_) => (self.tree, None),
            Tree::Map(entries) if entries.len() == 1 => (&entries[0].0, Some(&entries[0].1)),
            _ => return Err(self.refused(&"a variant's name, alone or as the only key of a map")),
        };
        let step = field(name, variants);
        let variant = Variant {
            name: self.at(name),
            content: content.map(|content| self.at(content)),
        };
        visitor.visit_enum(variant).map_err(|fault| match content {
            Some(_) => fault.inside(step),
            None => fault,
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        self.json
    }

    forward_to_deserialize_any! {
        f32 f64 char str string unit unit_struct seq tuple tuple_struct map identifier
    }
}

/// The items of a list.
struct Items<'de> {
    node: Node<'de>,
    items: slice::Iter<'de, Tree>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let at = self.next;
        self.next += 1;
        let read = seed.deserialize(self.node.at(item));
        read.map(Some).map_err(|fault| fault.inside(Step::Item(at)))
    }
}

/// The entries of a map.
struct Entries<'de> {
    node: Node<'de>,
    entries: slice::Iter<'de, (Tree, Tree)>,
    fields: &'static [&'static str],
    /// The entry whose key was read and whose value is next.
    value: Option<&'de (Tree, Tree)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let node = Node {
            is_key: true,
            ..self.node.at(key)
        };
        let read = seed.deserialize(node);
        read.map(Some)
            .map_err(|fault| fault.inside(field(key, self.fields)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.value.take() else {
            return Err(Fault::new(
                "its type asks for a value without its key".to_owned(),
            ));
        };
        let read = seed.deserialize(self.node.at(value));
        read.map_err(|fault| fault.inside(field(key, self.fields)))
    }
}

/// A variant of an enum.
struct Variant<'de> {
    name: Node<'de>,
    /// Nothing for a variant that is written as its name.
    content: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Content<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Content<'de>), Fault> {
        Ok((seed.deserialize(self.name)?, Content(self.content)))
    }
}

struct Content<'de>(Option<Node<'de>>);

impl<'de> Content<'de> {
    fn node(self, expected: &dyn Expected) -> Result<Node<'de>, Fault> {
        let missing = || Error::invalid_type(Unexpected::UnitVariant, expected);
        self.0.ok_or_else(missing)
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.0 {
            None => Ok(()),
            Some(node) => serde::Deserialize::deserialize(node),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.node(&"newtype variant")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.node(&"tuple variant")?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.node(&"struct variant")?
            .deserialize_struct("", fields, visitor)
    }
}
