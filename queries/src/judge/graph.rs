//! Judges `[expect.graph]`: the shape of the span forest.

use super::names::{Pattern, listed, plural, tally};
use super::order::missing;
use super::traces::{Descent, Index, descent};
use crate::expectation::{About, GraphExpectation, Verdict};

pub(super) fn judge(index: &Index<'_>, expected: &GraphExpectation, verdict: &mut Verdict) {
    for (number, (parent, child)) in expected.must_include.iter().enumerate() {
        let rule = format!("must_include[{number}]");
        must_include(index, &rule, &Pattern::new(parent), &Pattern::new(child), verdict);
    }
    for (number, (above, below)) in expected.must_not_cross.iter().enumerate() {
        let rule = format!("must_not_cross[{number}]");
        must_not_cross(index, &rule, &Pattern::new(above), &Pattern::new(below), verdict);
    }
    let shapes = [expected.acyclic, expected.must_be_connected, expected.single_root];
    if !shapes.contains(&Some(true)) && expected.max_depth.is_none() {
        return;
    }
    let forest = Forest::new(index);
    if expected.acyclic == Some(true) {
        forest.acyclic(verdict);
    }
    if let Some(most) = expected.max_depth {
        forest.max_depth(most, verdict);
    }
    if expected.must_be_connected == Some(true) {
        forest.must_be_connected(verdict);
    }
    if expected.single_root == Some(true) {
        forest.single_root(verdict);
    }
}

fn must_include(
    index: &Index<'_>,
    rule: &str,
    parent: &Pattern<'_>,
    child: &Pattern<'_>,
    verdict: &mut Verdict,
) {
    let (parents, children) = (index.named(parent), index.named(child));
    if parents.is_empty() || children.is_empty() {
        missing(index, rule, [(parent, &parents), (child, &children)], verdict);
        return;
    }
    let is_parent = |place| parents.binary_search(&place).is_ok();
    if children.iter().any(|child| index.parent(*child).is_some_and(is_parent)) {
        return;
    }
    let (parent, child) = (parent.text, child.text);
    let message = format!(
        "no `{child}` lies directly under `{parent}`: `{child}` is there, but {}",
        whereabouts(index, &children)
    );
    verdict.fail(rule, message, None);
}

/// What the spans at `places` lie directly under.
fn whereabouts(index: &Index<'_>, places: &[usize]) -> String {
    let parents = places.iter().filter_map(|place| index.parent(*place));
    let under = tally(parents.map(|place| index.spans[place].name.as_str()));
    let orphans = places.iter().filter(|place| index.is_orphan(**place)).count();
    let roots = places.len() - under.values().sum::<usize>() - orphans;
    let texts = [
        (!under.is_empty()).then(|| format!("under {}", listed(&under))),
        (orphans > 0).then(|| format!("under a parent that was not collected ({orphans})")),
        (roots > 0).then(|| format!("without a parent ({roots})")),
    ];
    texts.into_iter().flatten().collect::<Vec<_>>().join(" or ")
}

fn must_not_cross(
    index: &Index<'_>,
    rule: &str,
    above: &Pattern<'_>,
    below: &Pattern<'_>,
    verdict: &mut Verdict,
) {
    let (aboves, belows) = (index.named(above), index.named(below));
    for (pattern, _) in [(above, &aboves), (below, &belows)].iter().filter(|(_, p)| p.is_empty()) {
        let told = format!("`{rule}` was not tried: no span is named `{}`", pattern.text);
        verdict.warn(About::Names, told);
    }
    let lies_under = index.earliest_above(&aboves);
    let crossings: Vec<_> = belows
        .iter()
        .filter_map(|below| Some((*below, lies_under[*below]?)))
        .map(|(below, above)| {
            format!("`{}` lies under `{}`", index.spans[below].name, index.spans[above].name)
        })
        .collect();
    if crossings.is_empty() {
        return;
    }
    let count = plural(crossings.len() as u64, "span");
    let message = format!("{count} `{}` under `{}`, expected none", below.text, above.text);
    let nearest = crossings.into_iter().min();
    verdict.fail(rule, message, nearest);
}

/// The counted spans by their parent links.
struct Forest<'a> {
    index: &'a Index<'a>,
    parents: Vec<Option<usize>>,
    descent: Descent,
    roots: Vec<usize>,
}

impl<'a> Forest<'a> {
    fn new(index: &'a Index<'a>) -> Forest<'a> {
        let parents = index.counted_parents();
        let descent = descent(&parents);
        let roots = index.counted().filter(|place| parents[*place].is_none()).collect();
        Forest { index, parents, descent, roots }
    }

    fn acyclic(&self, verdict: &mut Verdict) {
        let cyclic: Vec<_> = self.descent.cycles.concat();
        if !cyclic.is_empty() {
            let message = format!("spans are their own ancestors: {}", self.names(&cyclic));
            self.fail("acyclic", message, None, verdict);
        }
    }

    fn max_depth(&self, most: u64, verdict: &mut Verdict) {
        let mut depths = vec![0; self.parents.len()];
        for cycle in &self.descent.cycles {
            cycle.iter().for_each(|place| depths[*place] = cycle.len() as u64);
        }
        for place in &self.descent.order {
            depths[*place] = 1 + self.parents[*place].map_or(0, |parent| depths[parent]);
        }
        let deepest = depths.iter().copied().max().unwrap_or(0);
        if deepest > most {
            let places: Vec<_> =
                self.index.counted().filter(|place| depths[*place] == deepest).collect();
            let names = self.names(&places);
            let most = plural(most, "level");
            let message = format!("expected at most {most}, found {deepest}, down to {names}");
            self.fail("max_depth", message, None, verdict);
        }
    }

    fn must_be_connected(&self, verdict: &mut Verdict) {
        let trees = self.roots.len() + self.descent.cycles.len();
        if trees > 1 {
            let roots = self.names(&self.roots);
            let message =
                format!("the spans fall apart into {trees} trees, with the roots {roots}");
            self.fail("must_be_connected", message, self.orphans(), verdict);
        }
    }

    fn single_root(&self, verdict: &mut Verdict) {
        let found = self.roots.len();
        if found != 1 {
            let roots = self.names(&self.roots);
            let message = format!("expected one root, found {found}: {roots}");
            self.fail("single_root", message, self.orphans(), verdict);
        }
    }

    /// The roots that are roots only because their parent is not here.
    fn orphans(&self) -> Option<String> {
        let is_orphan = |place: &usize| self.index.is_orphan(*place);
        let orphans: Vec<_> = self.roots.iter().copied().filter(is_orphan).collect();
        let names = self.names(&orphans);
        (!orphans.is_empty()).then(|| format!("the parent was not collected of {names}"))
    }

    fn fail(&self, rule: &str, message: String, nearest: Option<String>, verdict: &mut Verdict) {
        verdict.fail(rule, message + self.index.counted_note(), nearest);
    }

    fn names(&self, places: &[usize]) -> String {
        listed(&tally(places.iter().map(|place| self.index.spans[*place].name.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::judge as judge_all;
    use super::super::traces::table::{check, check_with_lifecycle, traces};
    use super::*;
    use crate::expectation::Expectation;

    const TABLE: &str = "
        clnrm.run 0..90 lifecycle
          http.get 0..9 server
            handler 1..8
              db.query 2..3 client
              db.query 4..5 client
          cleanup 10..11";

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    fn include(edges: &[(&str, &str)]) -> Expectation {
        let must_include = pairs(edges);
        Expectation::Graph(GraphExpectation { must_include, ..GraphExpectation::default() })
    }

    fn not_cross(edges: &[(&str, &str)]) -> Expectation {
        let must_not_cross = pairs(edges);
        Expectation::Graph(GraphExpectation { must_not_cross, ..GraphExpectation::default() })
    }

    fn whole(max_depth: u64) -> Expectation {
        Expectation::Graph(GraphExpectation {
            acyclic: Some(true),
            max_depth: Some(max_depth),
            must_be_connected: Some(true),
            single_root: Some(true),
            ..GraphExpectation::default()
        })
    }

    #[test]
    fn an_edge_is_direct() {
        let edges = [("handler", "db.*"), ("http.get", "handler"), ("clnrm.run", "http.get")];
        check(TABLE, include(&edges), expect!["holds, 6 looked at"]);
        check(
            TABLE,
            include(&[("http.get", "db.query")]),
            expect![[r#"
            fails, 5 looked at
            must_include[0]: no `db.query` lies directly under `http.get`: `db.query` is there, but under `handler` (2)
        "#]],
        );
    }

    #[test]
    fn a_missing_edge_says_which_end_is_missing() {
        let edges = [("http.gte", "handler"), ("handler", "db.exec"), ("x", "y")];
        check(
            TABLE,
            include(&edges),
            expect![[r#"
            fails, 5 looked at
            must_include[0]: no span is named `http.gte`
              nearest: did you mean `http.get`? there are `cleanup` (1), `db.query` (2), `handler` (1), `http.get` (1)
            must_include[1]: no span is named `db.exec`
              nearest: did you mean `db.query`? there are `cleanup` (1), `db.query` (2), `handler` (1), `http.get` (1)
            must_include[2]: no span is named `x`
              nearest: there are `cleanup` (1), `db.query` (2), `handler` (1), `http.get` (1)
            must_include[2]: no span is named `y`
              nearest: there are `cleanup` (1), `db.query` (2), `handler` (1), `http.get` (1)
        "#]],
        );
        let table = "a 0..9\nb 1..2\n\nb 2..3 orphan\nc 4..6\n  b 5..6";
        check(
            table,
            include(&[("a", "b"), ("b", "a")]),
            expect![[r#"
            fails, 5 looked at
            must_include[0]: no `b` lies directly under `a`: `b` is there, but under `c` (1) or under a parent that was not collected (1) or without a parent (1)
            must_include[1]: no `a` lies directly under `b`: `a` is there, but without a parent (1)
        "#]],
        );
    }

    #[test]
    fn a_crossing_is_at_any_depth() {
        let free = [("db.query", "handler"), ("cleanup", "db.query")];
        check(TABLE, not_cross(&free), expect!["holds, 5 looked at"]);
        check(
            TABLE,
            not_cross(&[("http.get", "db.*"), ("http.get", "cache")]),
            expect![[r#"
            fails, 5 looked at
            must_not_cross[0]: 2 spans `db.*` under `http.get`, expected none
              nearest: `db.query` lies under `http.get`
            warning: `must_not_cross[1]` was not tried: no span is named `cache`
        "#]],
        );
    }

    #[test]
    fn the_whole_forest_is_that_of_the_code_under_test() {
        check("a 0..9\n  b 1..2\n    c 1..2", whole(3), expect!["holds, 3 looked at"]);
        check(
            TABLE,
            whole(2),
            expect![[r#"
            fails, 5 looked at
            max_depth: expected at most 2 levels, found 3, down to `db.query` (2)
            must_be_connected: the spans fall apart into 2 trees, with the roots `cleanup` (1), `http.get` (1)
            single_root: expected one root, found 2: `cleanup` (1), `http.get` (1)
        "#]],
        );
        check_with_lifecycle(TABLE, whole(4), expect!["holds, 6 looked at"]);
        check_with_lifecycle(
            TABLE,
            whole(3),
            expect![[r#"
            fails, 6 looked at
            max_depth: expected at most 3 levels, found 4, down to `db.query` (2) (clnrm's own spans included)
        "#]],
        );
    }

    #[test]
    fn a_lost_parent_is_told() {
        check(
            "a 0..9\n  b 1..2\nc 3..4 orphan",
            whole(9),
            expect![[r#"
            fails, 3 looked at
            must_be_connected: the spans fall apart into 2 trees, with the roots `a` (1), `c` (1)
              nearest: the parent was not collected of `c` (1)
            single_root: expected one root, found 2: `a` (1), `c` (1)
              nearest: the parent was not collected of `c` (1)
        "#]],
        );
    }

    #[test]
    fn parents_that_go_round_are_told_and_do_not_hang() {
        let mut set = traces("a 0..9\n  b 1..2\n    c 1..2");
        set.spans[0].parent_id = Some(set.spans[1].span_id.clone());
        let verdict = judge_all(&set, &whole(2));
        let messages: Vec<_> = verdict.failures.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "spans are their own ancestors: `a` (1), `b` (1)",
                "expected at most 2 levels, found 3, down to `c` (1)",
                "expected one root, found 0: none",
            ]
        );
        let verdict = judge_all(&set, &not_cross(&[("b", "a")]));
        assert_eq!(verdict.failures[0].message, "1 span `a` under `b`, expected none");
    }

    #[test]
    fn nothing_has_no_shape() {
        check("", whole(9), expect!["fails, 0 looked at, no spans"]);
        check("clnrm.run 0..9 lifecycle", whole(9), expect!["fails, 0 looked at, no spans"]);
        check(
            "clnrm.run 0..9 lifecycle",
            not_cross(&[("clnrm.run", "db.drop")]),
            expect!["fails, 0 looked at, no spans"],
        );
        check_with_lifecycle(
            "clnrm.run 0..9 lifecycle",
            whole(9),
            expect!["fails, 0 looked at, no spans"],
        );
    }
}
