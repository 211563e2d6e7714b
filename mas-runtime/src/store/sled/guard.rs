//! sled at arm's length: its panics become errors, its errors become ours.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::store::{Corrupt, StoreError};

/// Calls into sled. A panic becomes [`StoreError::Failed`]: what sled holds in memory can't be trusted after one.
pub(super) fn call<T>(
    action: &'static str,
    run: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(translate(action, error)),
        Err(panic) => {
            let text = panic_text(&*panic);
            tracing::error!(action, panic = text, "sled panicked");
            Err(StoreError::failed(format!(
                "sled panicked while it was to {action}: {text}"
            )))
        }
    }
}

/// sled's errors in our words.
fn translate(action: &'static str, error: sled::Error) -> StoreError {
    match error {
        // A file that ends early or is missing is damage, not a disk that will work again.
        sled::Error::Io(source)
            if matches!(
                source.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
            ) =>
        {
            Corrupt::new("sled file", source.to_string()).into()
        }
        sled::Error::Io(source) => StoreError::io(action, source),
        sled::Error::Corruption { at, .. } => {
            let reason = format!("a checksum does not match at {at:?}");
            Corrupt::new("sled file", reason).into()
        }
        other => StoreError::failed(format!("sled could not {action}: {other}")),
    }
}

/// The text of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
