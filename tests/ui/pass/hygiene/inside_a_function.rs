//! Agents may stand in a function's body, in any order, several of them.

fn main() {
    use mas::prelude::*;
    use mas::private::{Agent, Call};

    #[agent]
    impl Late {
        #[on("a")]
        async fn a(&self, n: u8) -> u8 {
            n
        }
    }

    #[agent]
    struct Late;

    {
        #[agent]
        struct Late(u8);

        #[agent]
        impl Late {
            #[on("b")]
            async fn b(&self) -> u8 {
                self.0
            }
        }

        let _: fn(&LateRef) -> Call<u8> = LateRef::b;
        let _ = Late(3);
    }

    #[agent]
    struct Second;

    #[agent]
    impl Second {
        #[on("a")]
        async fn a(&self) {}
    }

    let _: fn(&LateRef, u8) -> Call<u8> = LateRef::a;
    let _: fn(&SecondRef) -> Call<()> = SecondRef::a;
    assert_eq!(Late::HANDLERS, Second::HANDLERS);
}
