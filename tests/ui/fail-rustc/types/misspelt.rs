//! Types that there are not, as payload, reply and item. Where its guesses differ, the compiler tells one twice.

use mas::prelude::*;

#[derive(Debug, Serialize, Deserialize)]
struct Task(u8);

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, task: Tsk) -> u8 {
        task.0
    }

    #[on("task.make")]
    async fn make(&self) -> Result<Taks> {
        Ok(Task(1))
    }

    #[on("task.list")]
    fn list(&self) -> impl Stream<Item = Tassk> {
        futures_util::stream::iter([Task(1)])
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker = runtime.spawn(Worker).await?;
        worker.process(Task(1)).await?;
        worker.make().await?;
        Ok(())
    };
    let _ = uses;
}
