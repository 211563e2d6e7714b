//! A ref is as visible as its agent, and can be imported like any item.

#![deny(unused_imports, unreachable_pub)]

mod agents {
    use mas::prelude::*;

    #[agent]
    pub(crate) struct Open;

    #[agent]
    impl Open {
        #[on("a")]
        async fn a(&self) -> u8 {
            1
        }
    }

    mod inner {
        use mas::prelude::*;

        #[agent]
        pub(super) struct Half;

        #[agent]
        impl Half {
            #[on("b")]
            async fn b(&self) -> u8 {
                2
            }
        }
    }

    pub(crate) fn half() -> usize {
        let _: fn(&inner::HalfRef) -> mas::private::Call<u8> = inner::HalfRef::b;
        size_of::<inner::Half>()
    }
}

mod renamed {
    pub(crate) use super::agents::{Open as Door, OpenRef as DoorRef};
}

use agents::{Open, OpenRef};

fn main() {
    let of_open: fn(&OpenRef) -> mas::private::Call<u8> = OpenRef::a;
    let of_door: fn(&renamed::DoorRef) -> mas::private::Call<u8> = renamed::DoorRef::a;
    let _: (Open, renamed::Door) = (renamed::Door, Open);
    let _ = (of_open, of_door, agents::half());
}
