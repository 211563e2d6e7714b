//! The same in a module and in a function, and for a generic agent.

mod workers {
    use mas::prelude::*;

    pub struct Worker<T, const N: usize>(pub [T; N]);

    #[agent]
    impl<T: Send + Sync + 'static, const N: usize> Worker<T, N> {
        #[on("task.process")]
        async fn process(&mut self) {}
    }
}

fn main() {
    use mas::prelude::*;

    struct Local;

    #[agent]
    impl Local {
        #[on("task.process")]
        async fn process(&mut self) {}
    }

    let _ = (workers::Worker([1]), Local);
}
