//! Many globs, matched together.
//!
//! Several become one deterministic automaton, which costs a step for each byte of the host, whatever
//! their number. Such an automaton can be exponential in what it is made
//! of (`*a*` with `*b*` with `*c*` ...), so its size is limited: globs that do not fit are split in
//! halves, and what fits nowhere is tried one by one. It says the same as [`Glob::matches`], always.

use regex_automata::{
    Anchored, MatchKind, PatternID,
    dfa::{Automaton as _, StartKind, dense},
    nfa::thompson,
    util::{start, syntax},
};

use super::glob::Glob;

/// Globs in an order that is kept: the places that come out are places in it.
#[derive(Debug, Default)]
pub(super) struct Automaton {
    parts: Vec<Part>,
}

/// What the automata of one table, or of one list of addresses, may still take.
#[derive(Debug)]
pub(super) struct Budget {
    /// Memory, in bytes.
    left: usize,
    /// Attempts that came to nothing, by the memory each might have taken, in bytes: they are what
    /// takes time.
    failures: usize,
}

/// Globs that stand side by side in the order.
#[derive(Debug)]
struct Part {
    /// The place of the first.
    from: usize,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Together(Box<dense::DFA<Vec<u32>>>),
    OneByOne(Vec<Glob>),
}

/// So many are as quick one by one.
const FEW: usize = 1;

/// The most that one automaton takes, in bytes.
const MOST: usize = 1 << 20;

/// With less, no attempt is made. Halving from [`MOST`] gets here in six steps, each of which
/// builds at most as much as the first; and all that fail share a budget: that bounds the work of
/// a hostile set.
const LEAST: usize = 1 << 14;

impl Budget {
    /// What each of them begins with. An automaton of two takes some 2 KiB and 40 µs; one
    /// that fails, up to 13 ms.
    pub(super) fn whole() -> Self {
        Self { left: 16 << 20, failures: 64 << 20 }
    }
}

impl Automaton {
    pub(super) fn new(globs: Vec<Glob>, budget: &mut Budget) -> Self {
        let mut automaton = Self::default();
        automaton.add(globs, 0, MOST, budget);
        automaton
    }

    /// The place of the first that matches.
    pub(super) fn first(&self, text: &[u8]) -> Option<usize> {
        self.parts.iter().find_map(|part| part.first(text))
    }

    /// Hands out the places of all that match, in no order.
    pub(super) fn each(&self, text: &[u8], mut take: impl FnMut(usize)) {
        self.parts.iter().for_each(|part| part.each(text, &mut take));
    }

    fn add(&mut self, mut globs: Vec<Glob>, from: usize, most: usize, budget: &mut Budget) {
        let most = most.min(budget.left).min(budget.failures);
        // A state takes more than the byte of the pattern that it stands for.
        let is_hopeless = globs.iter().map(Glob::len).sum::<usize>() > most;
        if globs.len() <= FEW || most < LEAST {
            self.parts.push(Part { from, engine: Engine::OneByOne(globs) });
        } else if !is_hopeless && let Some(dfa) = together(&globs, most) {
            budget.left -= dfa.memory_usage().min(budget.left);
            self.parts.push(Part { from, engine: Engine::Together(Box::new(dfa)) });
        } else {
            if !is_hopeless {
                budget.failures -= most;
            }
            let half = globs.len() / 2;
            let rest = globs.split_off(half);
            self.add(globs, from, most / 2, budget);
            self.add(rest, from + half, most / 2, budget);
        }
    }
}

impl Part {
    fn first(&self, text: &[u8]) -> Option<usize> {
        let place = match &self.engine {
            Engine::OneByOne(globs) => globs.iter().position(|glob| glob.matches(text)),
            Engine::Together(dfa) => places(dfa, text).min(),
        };
        place.map(|place| self.from + place)
    }

    fn each(&self, text: &[u8], take: &mut impl FnMut(usize)) {
        match &self.engine {
            Engine::OneByOne(globs) => {
                for (place, glob) in globs.iter().enumerate() {
                    if glob.matches(text) {
                        take(self.from + place);
                    }
                }
            }
            Engine::Together(dfa) => places(dfa, text).for_each(|place| take(self.from + place)),
        }
    }
}

/// The patterns that match the whole text, by their places among those of the automaton.
fn places(dfa: &dense::DFA<Vec<u32>>, text: &[u8]) -> impl Iterator<Item = usize> {
    let state = walk(dfa, text);
    let found =
        state.into_iter().flat_map(|state| (0..dfa.match_len(state)).map(move |n| (state, n)));
    found.map(|(state, n)| dfa.match_pattern(state, n).as_usize())
}

/// The state at the end of the text, if anything matches the whole of it.
fn walk(
    dfa: &dense::DFA<Vec<u32>>,
    text: &[u8],
) -> Option<regex_automata::util::primitives::StateID> {
    let mut state = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
    for byte in text {
        state = dfa.next_state(state, *byte);
        if dfa.is_dead_state(state) {
            return None;
        }
    }
    Some(dfa.next_eoi_state(state)).filter(|state| dfa.is_match_state(*state))
}

/// One automaton of all globs. None, if it would be larger than `most` bytes.
fn together(globs: &[Glob], most: usize) -> Option<dense::DFA<Vec<u32>>> {
    if globs.len() > PatternID::LIMIT {
        return None;
    }
    let patterns: Vec<String> = globs.iter().map(Glob::to_regex).collect();
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(most))
        .determinize_size_limit(Some(most));
    let bytes = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
    let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(most));
    dense::Builder::new().configure(config).syntax(bytes).thompson(nfa).build_many(&patterns).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::policy::glob::Prefix;

    fn glob() -> impl Strategy<Value = Glob> {
        let prefix = select(vec![Prefix::Body, Prefix::Below, Prefix::BodyAndBelow]);
        let piece = select(&["a", "b", ".", "-", "*", "?", "a.b", "*b", "?a"][..]);
        (prefix, vec(piece, 1..6)).prop_map(|(prefix, body)| Glob::new(prefix, &body.concat()))
    }

    fn text() -> impl Strategy<Value = String> {
        vec(select(&["a", "b", ".", "-", "a.b", "ba"][..]), 0..7).prop_map(|text| text.concat())
    }

    fn one_by_one(globs: &[Glob], text: &str) -> Vec<usize> {
        (0..globs.len()).filter(|place| globs[*place].matches(text)).collect()
    }

    fn all(automaton: &Automaton, text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        automaton.each(text.as_bytes(), |place| found.push(place));
        found.sort_unstable();
        found
    }

    fn agree(globs: &[Glob], texts: &[String], mut budget: Budget) -> Result<(), TestCaseError> {
        let automaton = Automaton::new(globs.to_vec(), &mut budget);
        for text in texts {
            let expected = one_by_one(globs, text);
            let first = automaton.first(text.as_bytes());
            prop_assert_eq!(first, expected.first().copied(), "{}", text);
            prop_assert_eq!(all(&automaton, text), expected, "{}", text);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn together_as_one_by_one(globs in vec(glob(), 0..24), texts in vec(text(), 8)) {
            agree(&globs, &texts, Budget::whole())?;
            agree(&globs, &texts, Budget { left: LEAST, failures: LEAST })?;
            agree(&globs, &texts, Budget { left: 0, failures: 0 })?;
        }
    }

    /// `*a*`, `*b*` ...: one automaton for all would have to know which of them it has met.
    #[test]
    fn a_hostile_set_stays_small() {
        let name = |n: u32| char::from(b'a' + u8::try_from(n % 26).unwrap());
        let globs: Vec<Glob> = (0..400)
            .map(|n| Glob::new(Prefix::Body, &format!("*{}*{}*", name(n), name(n / 26))))
            .collect();
        let mut budget = Budget::whole();
        let automaton = Automaton::new(globs.clone(), &mut budget);
        assert!(automaton.parts.len() > 1);
        assert!(Budget::whole().left - budget.left <= MOST);
        for text in ["abc", "zzz", "a-long-name.with.all-letters", ""] {
            assert_eq!(all(&automaton, text), one_by_one(&globs, text), "{text}");
        }
    }

    /// Two at each of many bases that no automaton of a bearable size can tell apart.
    #[test]
    fn failures_are_paid_for() {
        let mut budget = Budget::whole();
        let pair = |name: &str| {
            let glob =
                |first| Glob::new(Prefix::Body, &format!("*{first}{}.{name}.", "?".repeat(20)));
            vec![glob("a"), glob("b")]
        };
        let mut together = 0;
        for base in 0..100 {
            let automaton = Automaton::new(pair(&format!("n{base}")), &mut budget);
            together += usize::from(automaton.parts.len() > 1);
        }
        assert!(budget.failures < LEAST && together > 0, "{budget:?}");
    }

    #[test]
    fn many_plain_globs_are_one_automaton() {
        let globs: Vec<Glob> =
            (0..200).map(|n| Glob::new(Prefix::Body, &format!("host{n}-*.example.com"))).collect();
        let automaton = Automaton::new(globs, &mut Budget { left: MOST, failures: MOST });
        assert!(matches!(automaton.parts.as_slice(), [Part { engine: Engine::Together(_), .. }]));
        assert_eq!(automaton.first(b"host117-x.example.com"), Some(117));
        assert_eq!(automaton.first(b"host117.example.com"), None);
    }
}
