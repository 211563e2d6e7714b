//! What a power cut keeps of the changes that were not synced.

use crate::model::Entropy;

/// What a share of the changes is counted in.
const WHOLE: u64 = 1024;

/// One power cut: a seed says what it keeps.
#[derive(Debug)]
pub(super) struct PowerCut {
    entropy: Entropy,
    /// How it treats every list of changes, unless each is treated in its own way.
    luck: Option<Luck>,
}

/// How a list of changes is treated. Chance alone would hardly ever keep or lose all of a long one.
#[derive(Clone, Copy, Debug)]
enum Luck {
    KeepsAll,
    LosesAll,
    /// What came first is kept, what came last is lost, one change in between is torn.
    KeepsFirst,
    /// So many of [`WHOLE`] are kept, wherever they stand.
    KeepsShare(u64),
}

impl PowerCut {
    pub(super) fn seeded(seed: u64) -> Self {
        let entropy = Entropy::seeded(seed);
        let alike = entropy.below(3) > 0;
        let luck = alike.then(|| Luck::draw(&entropy));
        Self { entropy, luck }
    }

    /// What becomes of the next list, of `count` changes.
    pub(super) fn fate(&self, count: usize) -> Fate<'_> {
        let luck = self.luck.unwrap_or_else(|| Luck::draw(&self.entropy));
        let torn = self.entropy.below(count as u64 + 1) as usize;
        Fate {
            entropy: &self.entropy,
            luck,
            torn,
        }
    }
}

impl Luck {
    fn draw(entropy: &Entropy) -> Self {
        match entropy.below(6) {
            0 => Self::KeepsAll,
            1 => Self::LosesAll,
            2 | 3 => Self::KeepsFirst,
            _ => Self::KeepsShare(entropy.below(WHOLE + 1)),
        }
    }
}

/// What becomes of one list of changes.
#[derive(Debug)]
pub(super) struct Fate<'a> {
    entropy: &'a Entropy,
    luck: Luck,
    /// The change up to which [`Luck::KeepsFirst`] keeps.
    torn: usize,
}

impl Fate<'_> {
    /// Whether the next part of the change at `index` is kept.
    pub(super) fn keeps(&self, index: usize) -> bool {
        match self.luck {
            Luck::KeepsAll => true,
            Luck::LosesAll => false,
            Luck::KeepsFirst if index == self.torn => self.entropy.below(2) == 0,
            Luck::KeepsFirst => index < self.torn,
            Luck::KeepsShare(share) => self.entropy.below(WHOLE) < share,
        }
    }
}
