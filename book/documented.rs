//! A handler whose docs name its own agent: they stand on the ref, too, where `Self` is another type.

use mas::prelude::*;

/// An agent with a page of its own.
#[derive(Debug)]
#[agent]
pub struct Clerk;

#[agent]
impl Clerk {
    /// Files a paper, as [`Self::shelf`] says.
    ///
    /// ```
    /// assert_eq!("b".to_owned(), "b");
    /// ```
    #[on("paper.file")]
    async fn file(&self, paper: String) -> char {
        Self::shelf(&paper)
    }

    /// Where a paper stands: by its first letter.
    fn shelf(paper: &str) -> char {
        paper.chars().next().unwrap_or('-')
    }
}
