//! A pipeline: a planner splits a goal into tasks, workers draft them, a critic sends a draft back until it is good.
//!
//! The agents talk in plain structs by typed calls: a wrong payload or a wrong reply does not compile.

use futures_util::future::try_join_all;
use mas::prelude::*;

#[derive(Debug, Serialize, Deserialize)]
struct Goal {
    title: String,
    sections: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    section: String,
    /// What the critic said of the draft before.
    advice: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Draft {
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Good,
    Again { advice: String },
}

/// Turns a goal into tasks, has each drafted until the critic likes it, and puts together what became of them.
#[agent]
struct Planner {
    workers: WorkerRef,
    critic: CriticRef,
}

#[agent]
impl Planner {
    #[on("goal.reach")]
    async fn reach(&self, goal: Goal) -> Result<String> {
        let sections = goal.sections.into_iter();
        // All sections are worked on side by side; the result keeps their order.
        let finished = try_join_all(sections.map(|section| self.finish(section))).await?;
        Ok(format!("# {}\n{}", goal.title, finished.join("\n")))
    }

    /// A section's drafts and what the critic said of each. A method without `#[on]` is the agent's own business.
    async fn finish(&self, section: String) -> Result<String> {
        let mut rounds = section.clone();
        let mut task = Task {
            section,
            advice: None,
        };
        for round in 1..=3 {
            let draft = self.workers.draft(task.clone()).timeout(secs(5)).await?;
            rounds += &format!("\n   {round}. {}", draft.text);
            match self.critic.judge(draft.text).await? {
                Verdict::Good => return Ok(rounds + ": good"),
                Verdict::Again { advice } => {
                    rounds += &format!(": no, {advice}");
                    task.advice = Some(advice);
                }
            }
        }
        Err(Failure::permanent(format!("no good draft of `{}`", task.section)).into())
    }
}

/// Writes one section at a time. The pool has three of them.
#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("section.draft")]
    async fn draft(&mut self, task: Task) -> Draft {
        let text = match task.advice {
            None => format!("all there is to say about {}, at length", task.section),
            Some(advice) => format!("{} ({advice})", task.section),
        };
        Draft { text }
    }
}

/// Likes short texts.
#[agent]
struct Critic;

#[agent]
impl Critic {
    #[on("text.judge")]
    async fn judge(&self, text: String) -> Verdict {
        if text.len() <= 30 {
            return Verdict::Good;
        }
        Verdict::Again {
            advice: "in brief".to_owned(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = Runtime::builder().start().await?;
    let workers = runtime.spawn_pool("worker", 3, || Worker).await?;
    let critic = runtime.spawn(Critic).await?;
    let planner = runtime.spawn(Planner { workers, critic }).await?;

    let goal = Goal {
        title: "A guide to the sea".to_owned(),
        sections: ["tides", "currents", "waves"].map(str::to_owned).to_vec(),
    };
    println!("{}", planner.reach(goal).await?);

    runtime.shutdown().await
}
