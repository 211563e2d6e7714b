//! The struct and its handlers may stand in different modules, as long as the ref comes along with the agent.

#![deny(unused_imports)]

use mas::private::{Agent, Call};

mod by_path {
    use mas::prelude::*;

    #[agent]
    impl super::types::First {
        #[on("a")]
        async fn a(&self) -> u8 {
            1
        }
    }
}

mod by_import {
    use super::types::{Second, SecondRef};
    use mas::prelude::*;

    #[agent]
    impl Second {
        #[on("a")]
        async fn a(&self) -> u8 {
            2
        }
    }
}

mod by_glob {
    use super::types::ThirdRef;
    use super::types::*;
    use mas::prelude::*;

    #[agent]
    impl Third {
        #[on("a")]
        async fn a(&self) -> u8 {
            3
        }
    }
}

mod types {
    use mas::prelude::*;

    #[agent]
    pub(crate) struct First;
    #[agent]
    pub(crate) struct Second;
    #[agent]
    pub(crate) struct Third;
}

use types::*;

fn main() {
    let _: fn(&FirstRef) -> Call<u8> = FirstRef::a;
    let _: fn(&SecondRef) -> Call<u8> = SecondRef::a;
    let _: fn(&ThirdRef) -> Call<u8> = ThirdRef::a;
    assert_eq!(First::HANDLERS, Second::HANDLERS);
    assert_eq!(First::HANDLERS, Third::HANDLERS);
}
