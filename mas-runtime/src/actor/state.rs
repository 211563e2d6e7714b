//! An agent's state in memory: one cell an agent id, shared by all its instances here.
//!
//! The cell holds the newest state and its version. A `&mut self` handler works on a draft that it
//! publishes when it succeeds; an update of a `&self` handler is published at once. What is published is current for
//! everybody here before it is durable: commits go to the engine in the order of their versions, each on condition that
//! the one before it is stored, so that when one fails those after it fail, too, and the cell is loaded again.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::agent::{AgentState, Declaration};
use super::guard;
use crate::model::{AgentId, Codec, CodecError, Failure, FailureCode};
use crate::store::{Corrupt, Engine, Op, StoreError, StoredState};

/// A state as it was at one moment. Cheap to clone; it may live across an await and does not change under you.
pub struct Snapshot<S>(Arc<S>);

impl<S> Clone for Snapshot<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Deref for Snapshot<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: fmt::Debug> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A state of an earlier version, as a migration finds it.
#[derive(Clone, Debug)]
pub struct Document(Bytes);

impl Document {
    /// Reads it as the type that it had then.
    ///
    /// # Errors
    /// [`CodecError`] when it has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        Codec::MessagePack.decode(&self.0)
    }
}

type Validate = dyn Fn(&dyn Any) -> Result<(), String> + Send + Sync;
type Migrate = dyn Fn(u32, Document) -> Result<Box<dyn Any + Send>, String> + Send + Sync;

/// What a state type asks for beyond being kept.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    validate: Option<Arc<Validate>>,
    migrate: Option<Arc<Migrate>>,
}

impl Hooks {
    pub(crate) fn with_validate<S: AgentState, E: fmt::Display + 'static>(
        self,
        check: fn(&S) -> Result<(), E>,
    ) -> Self {
        let validate = move |state: &dyn Any| match state.downcast_ref::<S>() {
            Some(state) => check(state).map_err(|error| error.to_string()),
            None => Err("`validate` takes another type than the agent's state".to_owned()),
        };
        Self {
            validate: Some(Arc::new(validate)),
            ..self
        }
    }

    pub(crate) fn with_migrate<S: AgentState, E: fmt::Display + 'static>(
        self,
        migrate: fn(u32, Document) -> Result<S, E>,
    ) -> Self {
        let migrate = move |from: u32, document: Document| match migrate(from, document) {
            Ok(state) => Ok(Box::new(state) as Box<dyn Any + Send>),
            Err(error) => Err(error.to_string()),
        };
        Self {
            migrate: Some(Arc::new(migrate)),
            ..self
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("validate", &self.validate.is_some())
            .field("migrate", &self.migrate.is_some())
            .finish()
    }
}

/// The state of one agent id in one runtime.
pub(crate) struct StateCell<S> {
    agent: AgentId,
    kept: bool,
    schema: u32,
    hooks: Option<Arc<Hooks>>,
    /// Held while a `&self` handler changes the state, so that changes are submitted in their order.
    order: Mutex<()>,
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    current: Arc<S>,
    version: u64,
    stale: bool,
    /// How often a commit has failed: a version that was given away then may be given once more, to another state.
    failures: u64,
}

/// A handler's own copy of the state, until it is published.
pub(crate) struct DraftState<S> {
    base: u64,
    failures: u64,
    state: Arc<S>,
    changed: bool,
}

impl<S: AgentState> DraftState<S> {
    /// The same draft once more.
    pub(crate) fn fork(&self) -> Self {
        Self {
            base: self.base,
            failures: self.failures,
            state: Arc::clone(&self.state),
            changed: self.changed,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<S> {
        Snapshot(Arc::clone(&self.state))
    }
}

/// Why a draft could not be published.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// Another instance has moved the state since.
    Moved,
    /// It can't be encoded.
    Codec(CodecError),
}

impl<S: AgentState> StateCell<S> {
    /// A cell with the default state.
    pub(crate) fn new(agent: AgentId, declaration: &Declaration) -> Self {
        Self {
            agent,
            kept: declaration.stateful,
            schema: declaration.state_version,
            hooks: declaration.hooks.clone(),
            order: Mutex::new(()),
            inner: Mutex::new(Inner {
                current: Arc::new(S::fresh()),
                version: 0,
                stale: declaration.stateful,
                failures: 0,
            }),
        }
    }

    /// Whether the engine keeps it.
    pub(crate) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// Loads the state if the cell may differ from what is stored.
    pub(crate) async fn refresh(&self, engine: &dyn Engine) -> Result<(), StoreError> {
        if !self.kept || !self.inner().stale {
            return Ok(());
        }
        let stored = engine.load_state(&self.agent).await?;
        self.adopt(stored)
            .map_err(|reason| Corrupt::new(format!("state of `{}`", self.agent), reason).into())
    }

    fn adopt(&self, stored: Option<StoredState>) -> Result<(), String> {
        // Its author may have written how it is made and read.
        let read = guard::call(|| match stored {
            None => Ok((S::fresh(), 0)),
            Some(stored) => Ok((self.read(&stored)?, stored.version)),
        });
        let (current, version) =
            read.unwrap_or_else(|panic| Err(format!("it panicked: {panic}")))?;
        let mut inner = self.inner();
        if !inner.stale {
            // Somebody else has loaded it meanwhile, and may have moved it since.
            return Ok(());
        }
        inner.current = Arc::new(current);
        inner.version = version;
        inner.stale = false;
        Ok(())
    }

    fn read(&self, stored: &StoredState) -> Result<S, String> {
        if stored.schema == self.schema {
            return S::decode(&stored.bytes).map_err(|e| e.to_string());
        }
        let from = stored.schema;
        let migrate = self.hooks.as_ref().and_then(|hooks| hooks.migrate.as_ref());
        let Some(migrate) = migrate.filter(|_| from < self.schema) else {
            return Err(format!(
                "it is stored in version {from}, this agent has version {}: give a `migrate`",
                self.schema
            ));
        };
        let migrated = migrate(from, Document(stored.bytes.clone()))?;
        match migrated.downcast::<S>() {
            Ok(state) => Ok(*state),
            Err(_) => Err("`migrate` gives another type than the agent's state".to_owned()),
        }
    }

    /// The newest state.
    pub(crate) fn snapshot(&self) -> Snapshot<S> {
        Snapshot(Arc::clone(&self.inner().current))
    }

    /// A draft of the newest state, without a copy so far.
    pub(crate) fn draft(&self) -> DraftState<S> {
        let inner = self.inner();
        DraftState {
            base: inner.version,
            failures: inner.failures,
            state: Arc::clone(&inner.current),
            changed: false,
        }
    }

    /// Changes a draft. A panic of `change` leaves the draft as it was.
    ///
    /// # Errors
    /// A [`Failure`] when the state's `validate` refuses the change, or the state can't be copied. The draft is as before.
    pub(crate) fn update<R>(
        &self,
        draft: &mut DraftState<S>,
        change: impl FnOnce(&mut S) -> R,
    ) -> (R, Result<(), Failure>) {
        let mut copy = match copy(&*draft.state) {
            Ok(copy) => copy,
            Err(error) => {
                // The closure still has to give its value: it works on a default that is thrown away.
                let value = change(&mut S::fresh());
                return (value, Err(self.not_encoded(&error)));
            }
        };
        let value = change(&mut copy);
        let checked = self.check(&copy);
        if checked.is_ok() {
            draft.state = Arc::new(copy);
            draft.changed = true;
        }
        (value, checked)
    }

    /// Makes a draft current, and gives the operation that stores it, if it is kept and was changed.
    pub(crate) fn publish(&self, draft: &DraftState<S>) -> Result<Option<Op>, PublishError> {
        let _order = self.order();
        let mut inner = self.inner();
        let moved = inner.version != draft.base || inner.failures != draft.failures;
        if moved || inner.stale {
            return Err(PublishError::Moved);
        }
        if !draft.changed {
            return Ok(None);
        }
        self.set(&mut inner, Arc::clone(&draft.state))
            .map_err(PublishError::Codec)
    }

    /// Changes the newest state at once and gives the operation that stores it to `submit` while nobody else can: so
    /// operations are submitted in the order of their versions.
    pub(crate) fn update_now<R, C>(
        &self,
        change: impl FnOnce(&mut S) -> R,
        submit: impl FnOnce(Op) -> C,
    ) -> (R, Result<Option<C>, Failure>) {
        let _updating = Updating::begin();
        let _order = self.order();
        let mut draft = self.draft();
        let (value, checked) = self.update(&mut draft, change);
        let stored = checked.and_then(|()| {
            self.set(&mut self.inner(), draft.state)
                .map_err(|error| self.not_encoded(&error))
        });
        (value, stored.map(|op| op.map(submit)))
    }

    fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, inner: &mut Inner<S>, state: Arc<S>) -> Result<Option<Op>, CodecError> {
        if !self.kept {
            inner.current = state;
            inner.version += 1;
            return Ok(None);
        }
        let bytes = state.encode()?;
        let expected = inner.version;
        inner.current = state;
        inner.version = expected + 1;
        Ok(Some(Op::StatePut {
            agent: self.agent.clone(),
            expected,
            next: expected + 1,
            schema: self.schema,
            bytes,
        }))
    }

    /// A commit failed: what is in memory may differ from what is stored.
    pub(crate) fn invalidate(&self) {
        let mut inner = self.inner();
        inner.stale = self.kept;
        inner.failures += 1;
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.kept && self.inner().stale
    }

    fn check(&self, state: &S) -> Result<(), Failure> {
        let validate = self
            .hooks
            .as_ref()
            .and_then(|hooks| hooks.validate.as_ref());
        validate.map_or(Ok(()), |validate| {
            validate(state).map_err(|reason| {
                let text = format!("the state of `{}` was refused: {reason}", self.agent);
                Failure::new(FailureCode::STATE_REFUSED, text).lasting()
            })
        })
    }

    fn not_encoded(&self, error: &CodecError) -> Failure {
        let text = format!("the state of `{}` can't be kept: {error}", self.agent);
        Failure::new(FailureCode::STORE, text).lasting()
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for StateCell<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateCell")
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

thread_local! {
    static UPDATING: Cell<bool> = const { Cell::new(false) };
}

/// An update that runs on this thread. One inside another would wait for itself.
pub(crate) struct Updating(());

impl Updating {
    /// # Panics
    /// Inside another update: its handler fails, and says why.
    pub(crate) fn begin() -> Self {
        assert!(
            !UPDATING.replace(true),
            "`update_state` was called inside `update_state`: change all of it in one closure"
        );
        Self(())
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        UPDATING.set(false);
    }
}

/// A copy of a state, which need not be `Clone`.
fn copy<S: AgentState>(state: &S) -> Result<S, CodecError> {
    S::decode(&state.encode()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Tally {
        done: u64,
    }

    fn at_most_ten(tally: &Tally) -> Result<(), String> {
        match tally.done {
            0..=10 => Ok(()),
            more => Err(format!("{more} is more than 10")),
        }
    }

    fn cell() -> StateCell<Tally> {
        let declaration = Declaration::new("a").stateful().validate(at_most_ten);
        let cell = StateCell::new(AgentId::new("a").unwrap(), &declaration);
        cell.adopt(None).unwrap();
        cell
    }

    #[test]
    fn snapshots_do_not_change_under_their_holder() {
        let cell = cell();
        let before = cell.snapshot();
        let (value, stored) = cell.update_now(
            |tally| {
                tally.done = 3;
                tally.done
            },
            |op| op,
        );
        assert_eq!((value, before.done, cell.snapshot().done), (3, 0, 3));
        let Ok(Some(Op::StatePut { expected, next, .. })) = stored else {
            panic!("{stored:?}")
        };
        assert_eq!((expected, next), (0, 1));
    }

    #[test]
    fn a_refused_update_changes_nothing() {
        let cell = cell();
        let (_, refused) = cell.update_now(|tally| tally.done = 11, |op| op);
        let failure = refused.unwrap_err();
        assert_eq!(failure.code, FailureCode::STATE_REFUSED);
        assert_eq!(cell.snapshot().done, 0);
    }

    #[test]
    fn a_draft_that_others_overtook_is_not_published() {
        let cell = cell();
        let mut draft = cell.draft();
        cell.update(&mut draft, |tally| tally.done = 1).1.unwrap();
        cell.update_now(|tally| tally.done = 5, |op| op).1.unwrap();
        assert!(matches!(cell.publish(&draft), Err(PublishError::Moved)));
        assert_eq!(cell.snapshot().done, 5);
    }

    #[test]
    fn a_panic_in_an_update_leaves_the_state() {
        let cell = cell();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            cell.update_now(
                |tally| {
                    tally.done = 9;
                    panic!("in the middle")
                },
                |op| op,
            )
            .0
        }));
        assert!(panicked.is_err());
        assert_eq!(cell.snapshot().done, 0);
    }

    #[test]
    fn an_earlier_version_is_migrated_and_a_later_one_refused() {
        #[derive(Serialize, Deserialize)]
        struct Old {
            count: u64,
        }
        fn migrate(from: u32, old: Document) -> Result<Tally, CodecError> {
            assert_eq!(from, 1);
            Ok(Tally {
                done: old.read::<Old>()?.count,
            })
        }
        let declaration = Declaration::new("a")
            .stateful()
            .state_version(2)
            .migrate(migrate);
        let cell = StateCell::<Tally>::new(AgentId::new("a").unwrap(), &declaration);
        let stored = |schema| StoredState {
            version: 7,
            schema,
            bytes: Codec::MessagePack.encode(&Old { count: 4 }).unwrap(),
        };
        cell.adopt(Some(stored(1))).unwrap();
        assert_eq!((cell.snapshot().done, cell.inner().version), (4, 7));
        assert!(cell.adopt(Some(stored(3))).is_err());
    }
}
