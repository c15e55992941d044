//! Makes parsed templates fit for this world: what Tera would do without end or beyond measure
//! ends in a diagnostic, names of other templates become their places, and `env` takes a default.

use std::collections::{BTreeMap, HashMap};

use tera::ast::{Expr, ExprVal, FunctionCall, LogicOperator, MacroDefinition, Node, Set};
use tera::{Template, Value};

use crate::dialect::{DEFAULT, Default};

/// Counts the work of a loop or macro.
pub(super) const TICK: &str = "__tick";
/// Weighs a value that is kept.
pub(super) const WEIGH: &str = "__weigh";
/// Weighs a value that is written where nobody counts the output.
pub(super) const EMIT: &str = "__emit";

/// Whether a value is something.
pub(super) const IS_SET: &str = "__is_set";

/// How much a rendering may do: executed nodes of loops and macros, each counted more often the
/// larger the values at hand are. It takes a second or two.
const FUEL: u64 = 2_000_000;
/// The most a variable may hold, in bytes.
const LARGEST_VALUE: u64 = 1 << 20;
/// The most elements a range may have.
pub(super) const LONGEST_RANGE: u64 = 100_000;

/// What a rendering has done so far.
#[derive(Debug)]
pub(super) struct Work {
    left: u64,
    /// Bytes of the largest value that is kept.
    largest: u64,
    /// Why it has to stop.
    pub(super) exhausted: Option<String>,
}

impl Work {
    pub(super) const fn new() -> Work {
        Work { left: FUEL, largest: 0, exhausted: None }
    }

    /// Notes that so many nodes are executed.
    pub(super) fn spend(&mut self, nodes: u64) -> Result<(), String> {
        let cost = nodes.saturating_mul(1 + self.largest / 4096);
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.stop(format!("the template does more than {FUEL} steps")),
        }
    }

    /// Notes that a value is kept.
    pub(super) fn keep(&mut self, value: &Value) -> Result<(), String> {
        let size = size(value);
        if size > LARGEST_VALUE {
            return self
                .stop(format!("a value of the template is larger than {LARGEST_VALUE} bytes"));
        }
        self.largest = self.largest.max(size);
        self.spend(size / 256)
    }

    /// Notes that a value is written.
    pub(super) fn write(&mut self, value: &Value) -> Result<(), String> {
        self.spend(size(value) / 16)
    }

    pub(super) fn stop(&mut self, reason: String) -> Result<(), String> {
        self.exhausted.get_or_insert(reason.clone());
        Err(reason)
    }
}

/// About how many bytes a value takes.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(|item| 32 + size(item)).sum(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| 64 + key.len() as u64 + size(value)).sum()
        }
        _ => 8,
    }
}

/// Fits a template: `places` has what it includes and imports by the names it uses, `defaults` what
/// stands behind its macros' defaults.
///
/// # Errors
/// When a default is no expression of Tera's.
pub(super) fn fit(
    template: &mut Template,
    places: &BTreeMap<String, String>,
    defaults: &[Default],
) -> tera::Result<()> {
    let fitter = Fitter { places, counted: true };
    let place = |name: &mut String| {
        if let Some(place) = places.get(name) {
            name.clone_from(place);
        }
    };
    template.imported_macro_files.iter_mut().for_each(|(file, _)| place(file));
    template.parent.iter_mut().for_each(place);
    fitter.nodes(&mut template.ast);
    template.blocks.values_mut().for_each(|block| fitter.nodes(&mut block.body));
    let within = Fitter { places, counted: false };
    for MacroDefinition { name, args, body } in template.macros.values_mut() {
        for (parameter, default) in args.iter_mut() {
            let Some(expr) = default else { continue };
            if matches!(&expr.val, ExprVal::String(text) if text == DEFAULT) {
                let known = defaults
                    .iter()
                    .find(|one| one.of_macro == *name && one.parameter == *parameter);
                let known = known.expect("the rewriting notes every default it takes out");
                *expr = expression(&known.expression)?;
            }
            within.expr(expr);
        }
        within.nodes(body);
        body.insert(0, tick(body.len()));
    }
    Ok(())
}

/// Parses an expression.
fn expression(text: &str) -> tera::Result<Expr> {
    let template = Template::new("default", None, &format!("{{{{ {text} }}}}"))?;
    match template.ast.into_iter().next() {
        Some(Node::VariableBlock(_, expr)) => Ok(expr),
        _ => Err(tera::Error::msg(format!("`{text}` is no expression"))),
    }
}

struct Fitter<'a> {
    places: &'a BTreeMap<String, String>,
    /// Whether what is written goes to the output, which has a limit of its own.
    counted: bool,
}

impl Fitter<'_> {
    fn nodes(&self, nodes: &mut [Node]) {
        nodes.iter_mut().for_each(|node| self.node(node));
    }

    fn node(&self, node: &mut Node) {
        match node {
            Node::VariableBlock(_, expr) => {
                self.expr(expr);
                // What a macro writes is weighed within.
                let of_macro = matches!(expr.val, ExprVal::MacroCall(_)) && expr.filters.is_empty();
                if !self.counted && !of_macro && is_open(expr) {
                    wrap(expr, EMIT);
                }
            }
            Node::Set(_, set) => {
                self.expr(&mut set.value);
                if grows(&set.value) {
                    wrap(&mut set.value, WEIGH);
                }
            }
            Node::Include(_, names, _) => {
                for name in names {
                    if let Some(place) = self.places.get(name) {
                        name.clone_from(place);
                    }
                }
            }
            Node::FilterSection(_, section, _) => {
                section.filter.args.values_mut().for_each(|expr| self.expr(expr));
                Fitter { counted: false, ..*self }.nodes(&mut section.body);
            }
            Node::Block(_, block, _) => self.nodes(&mut block.body),
            Node::Forloop(_, forloop, _) => {
                self.expr(&mut forloop.container);
                self.nodes(&mut forloop.body);
                forloop.empty_body.iter_mut().for_each(|body| self.nodes(body));
                let nodes = count(&forloop.body);
                forloop.body.insert(0, tick(nodes));
            }
            Node::If(branches, _) => {
                for (_, condition, body) in &mut branches.conditions {
                    self.expr(condition);
                    env_in_condition(condition);
                    self.nodes(body);
                }
                branches.otherwise.iter_mut().for_each(|(_, body)| self.nodes(body));
            }
            Node::MacroDefinition(..)
            | Node::Super
            | Node::Text(_)
            | Node::Extends(..)
            | Node::ImportMacro(..)
            | Node::Raw(..)
            | Node::Break(_)
            | Node::Continue(_)
            | Node::Comment(..) => {}
        }
    }

    fn expr(&self, expr: &mut Expr) {
        default_of_env(expr);
        match &mut expr.val {
            ExprVal::Math(math) => {
                self.expr(&mut math.lhs);
                self.expr(&mut math.rhs);
            }
            ExprVal::Logic(logic) => {
                self.expr(&mut logic.lhs);
                self.expr(&mut logic.rhs);
            }
            ExprVal::In(within) => {
                self.expr(&mut within.lhs);
                self.expr(&mut within.rhs);
            }
            ExprVal::Test(test) => test.args.iter_mut().for_each(|expr| self.expr(expr)),
            ExprVal::MacroCall(call) => {
                for value in call.args.values_mut() {
                    self.expr(value);
                    if grows(value) {
                        wrap(value, WEIGH);
                    }
                }
            }
            ExprVal::FunctionCall(call) => self.arguments(call),
            ExprVal::Array(items) => items.iter_mut().for_each(|expr| self.expr(expr)),
            ExprVal::StringConcat(concat) => {
                for value in &mut concat.values {
                    if let ExprVal::FunctionCall(call) = value {
                        self.arguments(call);
                    }
                }
            }
            ExprVal::String(_)
            | ExprVal::Int(_)
            | ExprVal::Float(_)
            | ExprVal::Bool(_)
            | ExprVal::Ident(_) => {}
        }
        expr.filters.iter_mut().for_each(|filter| self.arguments(filter));
    }

    fn arguments(&self, call: &mut FunctionCall) {
        call.args.values_mut().for_each(|expr| self.expr(expr));
    }
}

/// How many nodes one pass over a body may execute, inner loops apart.
fn count(nodes: &[Node]) -> usize {
    let of = |node: &Node| match node {
        Node::If(branches, _) => {
            let bodies = branches.conditions.iter().map(|(_, _, body)| count(body));
            bodies.sum::<usize>() + branches.otherwise.as_ref().map_or(0, |(_, body)| count(body))
        }
        Node::FilterSection(_, section, _) => count(&section.body),
        _ => 1,
    };
    1 + nodes.iter().map(of).sum::<usize>()
}

/// A node that counts others.
fn tick(nodes: usize) -> Node {
    let nodes = Expr::new(ExprVal::Int(nodes as i64));
    let call = call(TICK, HashMap::from([("n".to_owned(), nodes)]));
    let value = Expr::new(ExprVal::FunctionCall(call));
    Node::Set(tera::ast::WS::default(), Set { key: TICK.to_owned(), value, global: false })
}

fn call(name: &str, args: HashMap<String, Expr>) -> FunctionCall {
    FunctionCall { name: name.to_owned(), args }
}

/// Has a function look at a value on its way.
fn wrap(expr: &mut Expr, function: &str) {
    let inner = std::mem::replace(expr, Expr::new(ExprVal::Bool(false)));
    let call = call(function, HashMap::from([("v".to_owned(), inner)]));
    expr.val = ExprVal::FunctionCall(call);
}

/// Whether a value may be larger than what it is made of.
fn grows(expr: &Expr) -> bool {
    match &expr.val {
        ExprVal::StringConcat(_) | ExprVal::MacroCall(_) | ExprVal::FunctionCall(_) => true,
        ExprVal::Array(items) => items.iter().any(is_open),
        _ => !expr.filters.is_empty(),
    }
}

/// Whether its size is not that of the template's own text.
fn is_open(expr: &Expr) -> bool {
    let plain = matches!(
        expr.val,
        ExprVal::String(_) | ExprVal::Int(_) | ExprVal::Float(_) | ExprVal::Bool(_)
    );
    !plain || !expr.filters.is_empty()
}

const ENV: [&str; 2] = ["env", "get_env"];

/// `env(name="X") | default(value="y")`: Tera skips that filter after a call.
fn default_of_env(expr: &mut Expr) {
    let ExprVal::FunctionCall(call) = &mut expr.val else { return };
    let is_default = expr.filters.first().is_some_and(|filter| filter.name == "default");
    if ENV.contains(&call.name.as_str()) && is_default {
        let mut filter = expr.filters.remove(0);
        if let Some(value) = filter.args.remove("value") {
            call.args.entry("default".to_owned()).or_insert(value);
        }
    }
}

/// In a condition, a variable is true when it is set to something. Tera takes nothing but truth
/// values from functions there, and so refuses these.
fn env_in_condition(condition: &mut Expr) {
    match &mut condition.val {
        ExprVal::FunctionCall(call) if ENV.contains(&call.name.as_str()) => {
            let nothing = Expr::new(ExprVal::String(String::new()));
            call.args.entry("default".to_owned()).or_insert(nothing);
            if condition.filters.is_empty() {
                let call = std::mem::replace(&mut condition.val, ExprVal::Bool(false));
                let value = HashMap::from([("v".to_owned(), Expr::new(call))]);
                condition.val = ExprVal::FunctionCall(self::call(IS_SET, value));
            }
        }
        ExprVal::Logic(logic) => {
            for side in [&mut logic.lhs, &mut logic.rhs] {
                match logic.operator {
                    LogicOperator::And | LogicOperator::Or => env_in_condition(side),
                    // What is compared is not asked whether it is set.
                    _ => default_of_compared(side),
                }
            }
        }
        _ => {}
    }
}

fn default_of_compared(side: &mut Expr) {
    if let ExprVal::FunctionCall(call) = &mut side.val
        && ENV.contains(&call.name.as_str())
    {
        let nothing = Expr::new(ExprVal::String(String::new()));
        call.args.entry("default".to_owned()).or_insert(nothing);
    }
}
