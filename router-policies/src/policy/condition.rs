//! The `when` of a rule: a CEL expression over features, facts and predictions. A condition that was accepted names only
//! things that exist, fits together, has no loops (its cost is its length), and can at worst fail at run time, which is
//! then no match.
//!
//! A condition is checked in four steps: it parses, it names only known things (`node`), its types fit (`types`), and it
//! gives true or false on a plain request. Must never let a fault of the CEL crate take the gateway down: parsing and
//! evaluating are fenced against panics.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{Expr, operators};
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value};
use serde::Serialize;

use super::node::Node;
use super::types;
use super::variables::{self, Variable};
use crate::features::Features;
use crate::question::Question;

/// Longest condition in bytes. Long ones belong into two rules.
const MAX_LENGTH: usize = 1000;

/// The standard functions without the macros (`all`, `map`, …): loops are what makes an expression expensive, and
/// `x in list` says what conditions need to say about lists.
static LANGUAGE: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// A condition that was checked.
#[derive(Debug)]
pub(super) struct Condition {
    program: Program,
    /// The same, to be reasoned about.
    pub(super) node: Node,
    /// Everything it names.
    pub(super) named: BTreeSet<Variable>,
}

/// What is wrong with a condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConditionFault {
    pub(super) message: String,
    pub(super) help: String,
}

impl ConditionFault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        ConditionFault { message: message.into(), help: help.into() }
    }
}

/// One part of a condition, with what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Term {
    /// The part, as written but for spaces and brackets.
    pub condition: String,
    /// `None` where it could not be evaluated.
    pub holds: Option<bool>,
}

impl Condition {
    /// Parses and checks.
    pub(super) fn parse(source: &str) -> Result<Condition, ConditionFault> {
        if source.len() > MAX_LENGTH {
            let message = format!("the condition has {} bytes, {MAX_LENGTH} are allowed", source.len());
            return Err(ConditionFault::new(message, "split it into several rules with the same attempts"));
        }
        let program = match catch_unwind(|| LANGUAGE.compile(source)) {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(syntax_fault(source, &errors)),
            Err(_) => return Err(ConditionFault::new("the condition cannot be parsed", "write it in a simpler way")),
        };
        let node = Node::of(program.expression())?;
        types::check(&node)?;
        let mut named = BTreeSet::new();
        node.names(&mut named);
        let condition = Condition { program, node, named };
        let plain = Question::about(Features::default(), &[]);
        match evaluate(condition.program.expression(), &context(&condition.named, &plain)) {
            Ok(Value::Bool(_)) => Ok(condition),
            Ok(_) => Err(ConditionFault::new("the condition does not give true or false", "")),
            // Only this request's numbers are at fault; on others the condition may well hold.
            Err(
                ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..)
                | ExecutionError::IndexOutOfBounds(_),
            ) => Ok(condition),
            Err(error) => {
                Err(ConditionFault::new(format!("the condition cannot be evaluated: {}", one_line(&error)), ""))
            }
        }
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// Why it could not be evaluated, one line without prompt text: features carry none.
    pub(super) fn holds(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        bool_of(evaluate(self.program.expression(), context))
    }

    /// The parts that must all hold, each with what became of it.
    pub(super) fn terms(&self, context: &Context<'_, '_>) -> Vec<Term> {
        let mut parts = Vec::new();
        conjuncts(self.program.expression(), &mut parts);
        let term = |part: &IdedExpr| {
            let condition = Node::of(part).map_or_else(|_| String::new(), |node| node.to_string());
            Term { condition, holds: bool_of(evaluate(part, context)).ok() }
        };
        parts.into_iter().map(term).collect()
    }
}

/// The values of `named` for one question.
pub(super) fn context(named: &BTreeSet<Variable>, question: &Question<'_>) -> Context<'static, 'static> {
    variables::context(&LANGUAGE, named, question)
}

fn evaluate(expression: &IdedExpr, context: &Context<'_, '_>) -> Result<Value, ExecutionError> {
    catch_unwind(AssertUnwindSafe(|| Value::resolve(expression, context)))
        .unwrap_or_else(|_| Err(ExecutionError::InternalError("the evaluation broke off".to_owned())))
}

fn bool_of(value: Result<Value, ExecutionError>) -> Result<bool, String> {
    match value {
        Ok(Value::Bool(holds)) => Ok(holds),
        Ok(_) => Err("does not give true or false".to_owned()),
        Err(error) => Err(one_line(&error)),
    }
}

fn conjuncts<'a>(expression: &'a IdedExpr, out: &mut Vec<&'a IdedExpr>) {
    match &expression.expr {
        Expr::Call(call) if call.func_name == operators::LOGICAL_AND => {
            call.args.iter().for_each(|side| conjuncts(side, out));
        }
        _ => out.push(expression),
    }
}

/// What people write who think in another language; elsewhere an example.
fn syntax_help(text: &str) -> &'static str {
    // What stands in quotes is no word of the language.
    let outside: String = text.split(['\'', '"']).step_by(2).collect::<Vec<_>>().join(" ");
    let has = |word: &str| {
        outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|part| part.eq_ignore_ascii_case(word))
    };
    let signs = outside.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", "");
    if has("and") || has("or") || has("not") {
        "write `&&` for and, `||` for or, `!` for not"
    } else if signs.contains('=') {
        "write `==` to compare"
    } else {
        "an example: `tool_needed && prompt_tokens_estimate < 800`"
    }
}

fn syntax_fault(text: &str, errors: &cel::ParseErrors) -> ConditionFault {
    let Some(first) = errors.errors.first() else {
        return ConditionFault::new("the condition is no CEL expression", "");
    };
    let message = first.msg.lines().next().unwrap_or_default();
    ConditionFault::new(
        format!(
            "the condition is no CEL expression: {message} (line {}, column {} of it)",
            first.pos.0,
            first.pos.1 + 1
        ),
        syntax_help(text),
    )
}

fn one_line(error: &ExecutionError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
