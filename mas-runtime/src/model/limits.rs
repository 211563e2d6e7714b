//! Every bound that mas keeps, with its unit and where its number comes from.
//!
//! A bound that somebody else can reach is checked before memory is taken, and one more is refused by a named error.

use std::time::Duration;

/// Longest name of an agent, of a node and of a message type, in bytes. Spec: mas §4, agent ids.
pub const NAME_BYTES_MAX: usize = 128;

/// Largest payload of one envelope, in encoded bytes, unless the runtime's builder says otherwise. Spec: mas §15.1.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// How many handlers one root message may pass through before its trail is cut. Design: envelopes, step 1.
pub const HOPS_MAX: u8 = 64;

/// How many further messages one root message may cause. Design: envelopes, step 1.
pub const BUDGET_DEFAULT: u32 = 10_000;

/// Envelopes that wait in one lane of a mailbox, unless the agent declares another number.
pub const MAILBOX_DEFAULT: usize = 1024;

/// Largest `mailbox = ..` that an agent may declare, in envelopes a lane.
pub const MAILBOX_MAX: usize = 1_048_576;

/// `&self` handlers that may run side by side in one instance, unless the agent declares another number.
pub const CONCURRENCY_DEFAULT: usize = 64;

/// Largest `concurrency = ..` that an agent may declare, in `&self` handlers.
pub const CONCURRENCY_MAX: usize = 65_536;

/// Envelopes that an instance takes out of its mailbox at a time: long enough to spread the cost of the lock, short
/// enough that a critical envelope does not wait behind many bulk ones.
pub const BATCH_MAX: usize = 64;

/// Envelopes that an instance handles before it lets other tasks of its thread run: what a mailbox holds by default, so that
/// a sender and its target on one thread take turns by the mailbox.
pub const TURNS_BEFORE_YIELD: u32 = 1024;

/// It lets them run sooner when its handlers have taken this long, which is looked at every [`BATCH_MAX`] turns: tokio
/// advises to run no task for more than a fraction of it without a pause, and a pause costs a microsecond.
pub const SLICE_MAX: Duration = Duration::from_millis(1);

/// Entries of one agent id's durable inbox. A sender waits, or is refused, beyond it.
pub const INBOX_ENTRIES_MAX: usize = 100_000;

/// Entries that wait in one agent id's outbox for a target that is not here or has no room.
pub const OUTBOX_ENTRIES_MAX: usize = 100_000;

/// Bytes of the payloads that one durable handler may send before it settles: half of a batch, whose other half is the
/// state and what each message carries beside its payload.
pub const STAGED_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;

/// Dead letters that one runtime keeps. The oldest volatile ones go first.
pub const DEAD_LETTERS_MAX: usize = 10_000;

/// Ids that one durable agent remembers in order to drop repeats.
pub const DEDUP_ENTRIES_MAX: usize = 65_536;

/// How long a durable agent remembers an id, and the reply to it.
pub const DEDUP_AGE_MAX: Duration = Duration::from_secs(600);

/// Replies that one runtime keeps for asks that durable handlers repeat of agents without an inbox: as many as one durable
/// agent remembers. The oldest go first.
pub const REPEATS_ENTRIES_MAX: usize = DEDUP_ENTRIES_MAX;

/// Bytes of these replies: 64 of the largest payloads.
pub const REPEATS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Live timers of one agent id.
pub const TIMERS_MAX: usize = 10_000;

/// Subscriptions of one agent id.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// Watches that one agent id holds on others.
pub const WATCHES_MAX: usize = 10_000;

/// Capabilities that one agent may declare.
pub const CAPABILITIES_MAX: usize = 256;

/// Bytes of one metadata key or value, and of one header.
pub const METADATA_BYTES_MAX: usize = 4096;

/// Items of a streamed reply that wait for a slow asker before its handler waits too.
pub const STREAM_ITEMS_MAX: usize = 32;

/// Events that wait for a slow reader of `Runtime::events` before it misses the oldest.
pub const EVENTS_MAX: usize = 4096;

/// Records of agents that were given up on that an engine keeps, and up to 64 more; the oldest go first.
pub const FAILURE_RECORDS_MAX: usize = 100_000;

/// Restarts of one instance within [`RESTART_WINDOW`] before it is given up on.
pub const RESTARTS_DEFAULT: u32 = 5;

/// The window in which restarts are counted.
pub const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// Attempts that a durable message gets before it becomes a dead letter. Design: envelopes, step 10.
pub const ATTEMPTS_DEFAULT: u32 = 5;

/// How long an ask waits for its reply unless told otherwise. Spec: mas §3.3.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a handler may run unless its agent declares otherwise: shorter than an ask waits, so that the asker hears why.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(55);

/// How long a shutdown waits for running handlers. Spec: mas §3.2.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How often a live agent renews its lease. Spec: mas §3.7.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);

/// How long silence lasts before discovery calls an agent inactive. Spec: mas §3.7.
pub const LEASE: Duration = Duration::from_secs(60);

/// Tries of a durable message against a state that other instances keep moving before it takes its turn alone.
pub const CONFLICTS_MAX: u32 = 8;

/// How long a message waits to take its turn alone, or for another that does, before it goes on without: two that wait for
/// each other are only late.
pub const ALONE_WAIT_MAX: Duration = Duration::from_secs(1);

/// State updates that one run of a `&self` handler may make: each is a commit of its own that the message waits for.
pub const UPDATES_MAX: usize = 10_000;

/// Commits that wait for the embedded engine's committer before their senders wait.
pub const COMMIT_QUEUE_MAX: usize = 4096;

/// Bytes of the batches that wait for the embedded engine's committer before further senders only hold a place in line.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of batches that the embedded engine's committer makes durable at a time: bounds how long the last of a group
/// waits for the first.
pub const COMMIT_GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Operations of one batch: a handler that spends a whole root budget of messages, and its own few records.
pub const BATCH_OPS_MAX: usize = 32_768;

/// Bytes of one batch, all its operations together: 64 of the largest payloads. The embedded engine takes about a second
/// for one, and everybody waits meanwhile.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one value at rest: the state of an agent, an envelope, a journal record.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Entries of one page that a store answers with, whatever was asked for.
pub const PAGE_ENTRIES_MAX: usize = 4096;

/// Bytes of values after which a page of a store ends: 16 of the largest payloads.
pub const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the name of a journal or of a secret.
pub const STORE_NAME_BYTES_MAX: usize = 256;

/// Reasons of failed attempts that an inbox entry keeps; the oldest go first.
pub const HISTORY_ENTRIES_MAX: usize = 32;

/// Bytes of one reason that an inbox entry or a dead letter keeps; the rest is cut off.
pub const REASON_BYTES_MAX: usize = 4096;

/// How far the disk may be behind a commit that was answered as buffered. Design: engines, levels of durability.
pub const BUFFERED_BEHIND_MAX: Duration = Duration::from_millis(5);

/// Reads of the embedded engine that run at a time, each on a thread of its own.
pub const STORE_READS_MAX: usize = 8;

/// How long a message of a durable agent waits in the outbox for a target that nobody has spawned. Design: envelopes, the
/// default time to live.
pub const OUTBOX_PATIENCE: Duration = Duration::from_secs(300);

/// How long a call of an engine may take, unless the runtime's builder says otherwise. Design: engines.
pub const ENGINE_DEADLINE: Duration = Duration::from_secs(10);

/// Commits in a row that the medium fails before an engine's circuit opens: one may be an accident, and each is told its own
/// error meanwhile.
pub const CIRCUIT_FAILURES_MAX: u32 = 5;

/// How long an engine's circuit is open before the engine is tried again, the first time: a disk that was busy is back.
pub const CIRCUIT_PAUSE_MIN: Duration = Duration::from_secs(1);

/// It doubles with each vain try, up to this: what was repaired is in use again within half a minute.
pub const CIRCUIT_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often the embedded engine tries to bring a failed index back, at most.
pub const STORE_REVIVE_EVERY: Duration = Duration::from_millis(250);

/// How long opening waits for what an earlier engine of this process still holds: its threads end on their own time.
pub const STORE_HANDOVER_MAX: Duration = Duration::from_secs(5);

/// What the embedded engine gathers before it brings it into its tree, in bytes: enough that a leaf that is written anew is
/// written for many changes, little enough that replaying it takes a moment.
pub const STORE_FLUSH_BYTES: usize = 16 * 1024 * 1024;

/// What it gathers at most while a flush is on its way; commits wait then.
pub const STORE_ACTIVE_BYTES_MAX: usize = 3 * STORE_FLUSH_BYTES;

/// What it leaves to the operating system at most before it syncs, in bytes of the log.
pub const STORE_UNSYNCED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Memory of the embedded engine's cache, in bytes, unless its options say otherwise.
pub const STORE_CACHE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// What the embedded engine seals anew in one commit, in bytes: commits that wait behind it wait for about a millisecond.
pub const STORE_RESEAL_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the lines of an export after which a check follows: little enough to be held until it is known to be sound.
pub const EXPORT_BLOCK_BYTES: usize = 1024 * 1024;

/// Bytes of one line of an export: the largest value in base64, and every byte of its texts written as six.
pub const EXPORT_LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Findings that an examination of a store keeps; the others are counted.
pub const STORE_FINDINGS_MAX: usize = 1000;

/// Keys of one key file, and of one store: one rotation a month for five years before old lines must go.
pub const STORE_KEYS_MAX: usize = 64;

/// Bytes of a key file: its first line of 16, and 76 for each of [`STORE_KEYS_MAX`] keys.
pub const STORE_KEY_FILE_BYTES_MAX: usize = 16 + 76 * STORE_KEYS_MAX;

/// Lists and maps in each other in one payload or state, in levels: as deep as the JSON reader goes.
pub const NESTING_MAX: usize = 127;
