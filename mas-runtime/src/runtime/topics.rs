//! Publish and subscribe: which agents want what is published under a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::actor::RequestError;
use crate::model::AgentId;
use crate::model::limits::{NAME_BYTES_MAX, SUBSCRIPTIONS_MAX};

/// The subscriptions of one runtime: a tree of topic words.
#[derive(Debug, Default)]
pub(super) struct Topics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    root: Node,
    by_agent: BTreeMap<AgentId, BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Node {
    words: BTreeMap<String, Self>,
    /// Who subscribes to just what leads here.
    here: BTreeSet<AgentId>,
    /// Who subscribes to all that is below.
    below: BTreeSet<AgentId>,
}

impl Topics {
    /// Adds a subscription; adding it again does nothing.
    ///
    /// # Errors
    /// When the pattern is malformed, or the agent has too many.
    pub(super) fn subscribe(&self, agent: &AgentId, pattern: &str) -> Result<(), RequestError> {
        check(pattern)?;
        let mut state = self.state();
        let own = state.by_agent.entry(agent.clone()).or_default();
        if own.len() >= SUBSCRIPTIONS_MAX && !own.contains(pattern) {
            return Err(RequestError::TooManySubscriptions {
                agent: agent.clone(),
                subscriptions_max: SUBSCRIPTIONS_MAX,
            });
        }
        own.insert(pattern.to_owned());
        state.root.at(pattern).insert(agent.clone());
        Ok(())
    }

    /// Takes a subscription back. False when there was none.
    pub(super) fn unsubscribe(&self, agent: &AgentId, pattern: &str) -> bool {
        let mut state = self.state();
        let Some(own) = state.by_agent.get_mut(agent) else {
            return false;
        };
        let had = own.remove(pattern);
        if own.is_empty() {
            state.by_agent.remove(agent);
        }
        if had {
            state.root.remove(agent, pattern);
        }
        had
    }

    /// Takes all subscriptions of an agent back: it has ended.
    pub(super) fn remove(&self, agent: &AgentId) {
        let mut state = self.state();
        for pattern in state.by_agent.remove(agent).unwrap_or_default() {
            state.root.remove(agent, &pattern);
        }
    }

    /// Who gets what is published under this topic, in order, each once.
    pub(super) fn subscribers(&self, topic: &str) -> Vec<AgentId> {
        let state = self.state();
        let mut found = BTreeSet::new();
        let words: Vec<&str> = topic.split('.').collect();
        state.root.collect(&words, &mut found);
        found.into_iter().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// The set that a pattern's subscribers are in.
    fn at(&mut self, pattern: &str) -> &mut BTreeSet<AgentId> {
        let mut node = self;
        for word in pattern.split('.') {
            if word == "**" {
                return &mut node.below;
            }
            node = node.words.entry(word.to_owned()).or_default();
        }
        &mut node.here
    }

    /// Takes a subscription out, and the nodes that nobody needs any more.
    fn remove(&mut self, agent: &AgentId, pattern: &str) {
        let (word, rest) = match pattern.split_once('.') {
            Some((word, rest)) => (word, Some(rest)),
            None => (pattern, None),
        };
        if word == "**" {
            self.below.remove(agent);
            return;
        }
        let Some(child) = self.words.get_mut(word) else {
            return;
        };
        match rest {
            Some(rest) => child.remove(agent, rest),
            None => {
                child.here.remove(agent);
            }
        }
        if child.words.is_empty() && child.here.is_empty() && child.below.is_empty() {
            self.words.remove(word);
        }
    }

    fn collect(&self, words: &[&str], found: &mut BTreeSet<AgentId>) {
        let Some((first, rest)) = words.split_first() else {
            found.extend(self.here.iter().cloned());
            return;
        };
        found.extend(self.below.iter().cloned());
        for word in [first, "*"] {
            if let Some(child) = self.words.get(word) {
                child.collect(rest, found);
            }
        }
    }
}

/// A pattern is words joined by dots; `*` is any one word, `**` at the end one or more.
fn check(pattern: &str) -> Result<(), RequestError> {
    let bad = |reason: &str| {
        Err(RequestError::TopicPattern {
            pattern: pattern.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if pattern.is_empty() || pattern.len() > NAME_BYTES_MAX {
        return bad(&format!("it takes 1 to {NAME_BYTES_MAX} bytes"));
    }
    let words: Vec<&str> = pattern.split('.').collect();
    for (place, word) in words.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        match *word {
            "" => return bad("a word is empty"),
            "*" => {}
            "**" if place + 1 == words.len() => {}
            "**" => return bad("`**` stands at the end only"),
            word if word.chars().all(plain) => {}
            _ => return bad("a word holds A-Z a-z 0-9 _ : - only, or is `*`"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    #[test]
    fn patterns_match_word_by_word() {
        let topics = Topics::default();
        topics.subscribe(&id("exact"), "news.sport").unwrap();
        topics.subscribe(&id("one"), "news.*").unwrap();
        topics.subscribe(&id("all"), "news.**").unwrap();
        topics.subscribe(&id("middle"), "*.sport.*").unwrap();
        assert_eq!(
            topics.subscribers("news.sport"),
            [id("all"), id("exact"), id("one")]
        );
        assert_eq!(
            topics.subscribers("news.sport.chess"),
            [id("all"), id("middle")]
        );
        assert!(topics.subscribers("news").is_empty());
        assert!(topics.subscribers("other.sport").is_empty());
    }

    #[test]
    fn what_is_taken_back_leaves_nothing_behind() {
        let topics = Topics::default();
        topics.subscribe(&id("a"), "x.y.*").unwrap();
        topics.subscribe(&id("a"), "x.**").unwrap();
        assert!(topics.unsubscribe(&id("a"), "x.y.*"));
        assert!(!topics.unsubscribe(&id("a"), "x.y.*"));
        topics.remove(&id("a"));
        let state = topics.state();
        assert!(state.by_agent.is_empty());
        assert!(state.root.words.values().all(|node| node.below.is_empty()));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for bad in ["", ".", "a..b", "a.**.b", "a.b*", "a b", &"a".repeat(200)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "*", "**", "a.*.b", "a.**"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn one_more_than_the_limit_is_refused() {
        let topics = Topics::default();
        for number in 0..SUBSCRIPTIONS_MAX {
            topics.subscribe(&id("a"), &format!("t.{number}")).unwrap();
        }
        assert!(topics.subscribe(&id("a"), "t.0").is_ok(), "it has that one");
        assert!(topics.subscribe(&id("a"), "u").is_err());
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_a_plain_match(
            patterns in prop::collection::vec("(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.\\*\\*)?", 1..6),
            topic in "(a|b)(\\.(a|b)){0,3}",
        ) {
            let topics = Topics::default();
            for (number, pattern) in patterns.iter().enumerate() {
                topics.subscribe(&id(&format!("n{number}")), pattern).unwrap();
            }
            let want: BTreeSet<AgentId> = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| plain_match(pattern, &topic))
                .map(|(number, _)| id(&format!("n{number}")))
                .collect();
            let got: BTreeSet<AgentId> = topics.subscribers(&topic).into_iter().collect();
            prop_assert_eq!(got, want);
        }
    }

    fn plain_match(pattern: &str, topic: &str) -> bool {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let topic: Vec<&str> = topic.split('.').collect();
        let open = pattern.last() == Some(&"**");
        let fixed = if open {
            &pattern[..pattern.len() - 1]
        } else {
            &pattern[..]
        };
        let length = if open {
            topic.len() > fixed.len()
        } else {
            topic.len() == fixed.len()
        };
        length && fixed.iter().zip(&topic).all(|(p, t)| *p == "*" || p == t)
    }
}
