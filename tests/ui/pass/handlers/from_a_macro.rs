//! An agent that a `macro_rules!` writes, names and types given from outside.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

macro_rules! counter {
    ($agent:ident, $handler:ident, $payload:ty, $message_type:literal) => {
        #[agent]
        struct $agent {
            sum: $payload,
        }

        #[agent]
        impl $agent {
            #[on($message_type)]
            async fn $handler(
                &mut self,
                by: $payload,
                ctx: &mut Context<Self>,
            ) -> Result<$payload> {
                let _ = ctx;
                self.sum += by;
                Ok(self.sum)
            }
        }
    };
}

counter!(Small, add, u8, "add.small");
counter!(Large, add, u64, "add.large");

fn main() {
    assert_eq!(Small::HANDLERS, [HandlerSpec::exclusive(0, "add.small")]);
    assert_eq!(Large::HANDLERS, [HandlerSpec::exclusive(0, "add.large")]);
    let _: fn(&SmallRef, u8) -> mas::private::Call<u8> = SmallRef::add;
    let _: fn(&LargeRef, u64) -> mas::private::Call<u64> = LargeRef::add;
}
