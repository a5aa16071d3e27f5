//! What expressions give: texts, numbers, lists and maps.
//!
//! A value of a secret is borrowed or shared, and overwritten when its last user drops it; nothing here has `Debug` or `Display`. Lists
//! and maps cannot change once they are made, so they hold no cycle, and they are nested no deeper than [`MAX_DEPTH`]: whatever walks
//! one may recurse.

use std::{cmp::Ordering, collections::BTreeMap, ops::Deref, rc::Rc};

use zeroize::Zeroizing;

use super::{
    super::json::MAX_DEPTH,
    budget::{Budget, Draft},
    problem::Problem,
};

/// The longest that a number may be written, in characters, so that to look at one costs nothing to speak of. No float needs more.
pub(super) const MAX_NUMBER: usize = 400;

/// A text of the template, of a key, or one that was made.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<Zeroizing<String>>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl From<Zeroizing<String>> for Text<'_> {
    fn from(text: Zeroizing<String>) -> Self {
        Self::Made(Rc::new(text))
    }
}

impl From<Draft> for Text<'_> {
    fn from(draft: Draft) -> Self {
        draft.finish().into()
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

#[derive(Clone)]
pub(super) enum Value<'a> {
    /// What a name that does not exist stands for. Only `default` and the tests `defined` and `undefined` take it.
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    /// A number that is printed as it was written, such as `1.0`; no longer than [`MAX_NUMBER`].
    Number(Text<'a>),
    Text(Text<'a>),
    List(Rc<List<'a>>),
    Map(Rc<Map<'a>>),
    /// The key of this name, whose bytes are no text.
    Bytes(&'a str),
}

pub(super) struct List<'a> {
    pub items: Vec<Value<'a>>,
    depth: usize,
}

pub(super) struct Map<'a> {
    pub entries: BTreeMap<Text<'a>, Value<'a>>,
    depth: usize,
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Text<'a>>) -> Self {
        Self::Text(text.into())
    }

    /// The caller has paid for the items.
    pub fn list(items: Vec<Self>) -> Result<Self, Problem> {
        let depth = depth_above(items.iter())?;
        Ok(Self::List(Rc::new(List { items, depth })))
    }

    /// The caller has paid for the entries.
    pub fn map(entries: BTreeMap<Text<'a>, Self>) -> Result<Self, Problem> {
        let depth = depth_above(entries.values())?;
        Ok(Self::Map(Rc::new(Map { entries, depth })))
    }

    /// The map of all keys, none of which is a list or a map.
    pub fn keys(entries: BTreeMap<Text<'a>, Self>) -> Self {
        Self::Map(Rc::new(Map { entries, depth: 1 }))
    }

    /// What this is, with its article, for messages.
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Undefined => "nothing",
            Self::None => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Bytes(_) => "a key that is no text",
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::None => false,
            Self::Bool(yes) => *yes,
            Self::Int(number) => *number != 0,
            Self::Number(written) => written.parse::<f64>().is_ok_and(|number| number != 0.0),
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Bytes(_) => true,
        }
    }

    /// What is printed. JSON's own words for what it has no quotes for, so that a key says the same by a template and without one.
    pub fn to_text(&self) -> Result<Text<'a>, Problem> {
        match self {
            Self::None => Ok(Text::Borrowed("null")),
            Self::Bool(yes) => Ok(Text::Borrowed(if *yes { "true" } else { "false" })),
            Self::Int(number) => Ok(Zeroizing::new(number.to_string()).into()),
            Self::Number(text) | Self::Text(text) => Ok(text.clone()),
            Self::List(_) => Err(Problem::new("a list is no text: use join, or tojson, or a loop over it")),
            Self::Map(_) => Err(Problem::new("a map is no text: take one of its values, or use tojson")),
            Self::Undefined => Err(Problem::new("there is no value here")),
            Self::Bytes(key) => Err(not_text(key)),
        }
    }

    fn as_number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a comparison with a float, which has no more digits")]
            Self::Int(number) => Some(*number as f64),
            Self::Number(written) => written.parse().ok(),
            _ => None,
        }
    }

    /// Whether both are the same, by content.
    pub fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Problem> {
        budget.spend_step()?;
        Ok(match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Int(one), Self::Int(two)) => one == two,
            (Self::Int(_) | Self::Number(_), Self::Int(_) | Self::Number(_)) => {
                self.as_number().is_some_and(|one| Some(one) == other.as_number())
            }
            (Self::Text(one), Self::Text(two)) => {
                if one.len() == two.len() {
                    budget.spend_bytes(one.len())?;
                }
                one == two
            }
            (Self::List(one), Self::List(two)) => {
                one.items.len() == two.items.len()
                    && all(one.items.iter().zip(&two.items), |(one, two)| one.equals(two, budget))?
            }
            (Self::Map(one), Self::Map(two)) => {
                one.entries.len() == two.entries.len()
                    && all(one.entries.iter().zip(&two.entries), |((name, one), (other, two))| {
                        budget.spend_bytes(name.len().min(other.len()))?;
                        Ok(name == other && one.equals(two, budget)?)
                    })?
            }
            (Self::Bytes(key), _) | (_, Self::Bytes(key)) => return Err(not_text(key)),
            _ => false,
        })
    }

    /// Which comes first, of two numbers or two texts.
    pub fn order(&self, other: &Self, budget: &mut Budget) -> Result<Ordering, Problem> {
        let ordering = match (self, other) {
            (Self::Int(one), Self::Int(two)) => Some(one.cmp(two)),
            (Self::Text(one), Self::Text(two)) => {
                budget.spend_bytes(one.len().min(two.len()))?;
                Some(one.cmp(two))
            }
            _ => self.as_number().zip(other.as_number()).and_then(|(one, two)| one.partial_cmp(&two)),
        };
        ordering.ok_or_else(|| {
            let (one, two) = (self.sort(), other.sort());
            Problem::new(format!("{one} and {two} have no order: compare two numbers or two texts"))
        })
    }

    /// Whether this text has that one in it, this list that item, this map that key.
    pub fn holds(&self, item: &Self, budget: &mut Budget) -> Result<bool, Problem> {
        match self {
            Self::Text(text) => {
                let part = item.to_text()?;
                budget.spend_bytes(text.len().saturating_add(part.len()))?;
                Ok(text.contains(&*part))
            }
            Self::List(list) => {
                for other in &list.items {
                    if other.equals(item, budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Map(map) => {
                let name = item.to_text()?;
                budget.spend_bytes(name.len())?;
                Ok(map.entries.contains_key(&*name))
            }
            other => {
                Err(Problem::new(format!("{} has nothing in it: look into a text, a list or a map", other.sort())))
            }
        }
    }
}

fn all<T>(
    mut items: impl Iterator<Item = T>,
    mut test: impl FnMut(T) -> Result<bool, Problem>,
) -> Result<bool, Problem> {
    items.try_fold(true, |so_far, item| Ok(so_far && test(item)?))
}

fn depth_above<'v, 'a: 'v>(parts: impl Iterator<Item = &'v Value<'a>>) -> Result<usize, Problem> {
    let below = parts.map(|part| match part {
        Value::List(list) => list.depth,
        Value::Map(map) => map.depth,
        _ => 0,
    });
    match below.max().unwrap_or_default() {
        MAX_DEPTH => Err(Problem::new(format!(
            "lists and maps are nested more than {MAX_DEPTH} deep: put fewer of them into each other"
        ))),
        below => Ok(below + 1),
    }
}

pub(super) fn not_text(key: &str) -> Problem {
    Problem::new(format!(
        "the key {key} is not text, and templates take only text: select it with keys instead, or store it as base64"
    ))
}
