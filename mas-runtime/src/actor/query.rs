//! Finding agents by what they can do.

use std::collections::BTreeMap;

use crate::model::AgentId;

/// What to look for.
///
/// ```
/// # use mas_runtime::actor::Query;
/// let query = Query::all(["nlp", "text"]).with("region", "eu");
/// let any = Query::from(["nlp"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub(crate) all: Vec<String>,
    pub(crate) any: Vec<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) also_inactive: bool,
    pub(crate) limit: Option<usize>,
}

impl Query {
    /// Agents with all of these capabilities; with none named, every agent.
    pub fn all<S: Into<String>>(capabilities: impl IntoIterator<Item = S>) -> Self {
        Self {
            all: capabilities.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Agents with at least one of these capabilities.
    pub fn any<S: Into<String>>(capabilities: impl IntoIterator<Item = S>) -> Self {
        Self {
            any: capabilities.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Only those whose metadata says `value` under `key`.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Also those whose lease has lapsed.
    #[must_use]
    pub fn also_inactive(mut self) -> Self {
        self.also_inactive = true;
        self
    }

    /// At most this many, the first by id.
    #[must_use]
    pub fn limit(mut self, agents: usize) -> Self {
        self.limit = Some(agents);
        self
    }
}

/// A list of capabilities asks for all of them.
impl<S: Into<String>, const N: usize> From<[S; N]> for Query {
    fn from(capabilities: [S; N]) -> Self {
        Self::all(capabilities)
    }
}

impl<S: Into<String>> From<Vec<S>> for Query {
    fn from(capabilities: Vec<S>) -> Self {
        Self::all(capabilities)
    }
}

/// What discovery says of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// What it declares it can do, in order.
    pub capabilities: Vec<String>,
    /// What else it declares.
    pub metadata: BTreeMap<String, String>,
    /// Whether its lease holds.
    pub status: AgentStatus,
    /// How many instances it has here.
    pub instances: u32,
}

impl AgentRecord {
    pub(crate) const fn new(
        id: AgentId,
        capabilities: Vec<String>,
        metadata: BTreeMap<String, String>,
        status: AgentStatus,
        instances: u32,
    ) -> Self {
        Self {
            id,
            capabilities,
            metadata,
            status,
            instances,
        }
    }
}

/// Whether an agent's lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentStatus {
    /// It has renewed its lease in time.
    Active,
    /// It has not.
    Inactive,
}
