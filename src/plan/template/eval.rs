//! Runs a template over the keys of a secret.
//!
//! The language is a part of Jinja: texts, `if`, `for`, `set`, `with`, `filter`, comparisons, and the functions of the table. What it
//! has not, it refuses by name: no other template can be reached, nothing recurses, and nothing multiplies texts or lists. Every
//! statement and expression spends from the budget before it runs, so that a template ends whatever it is. Statements are here; next:
//! [`expression`](super::expression).

use minijinja::machinery::{
    Span,
    ast::{self, Expr, Spanned, Stmt},
};
use zeroize::Zeroizing;

use super::{
    budget::Draft,
    expression::span,
    functions::Session,
    problem::{Problem, start},
    scope::Scopes,
    value::Value,
};

type Done = Result<(), Problem>;
pub(super) type Answer<'a> = Result<Value<'a>, Problem>;

/// Adds where a problem is.
pub(super) trait Locate<T> {
    fn at(self, span: Span) -> Result<T, Problem>;
}

impl<T> Locate<T> for Result<T, Problem> {
    fn at(self, span: Span) -> Self {
        self.map_err(|problem| problem.at(start(span)))
    }
}

/// Renders a template; what its text is borrowed from outlives its values.
pub(super) fn render<'a>(
    template: &'a Stmt<'a>,
    data: Value<'a>,
    session: &mut Session,
) -> Result<Zeroizing<String>, Problem> {
    let mut machine =
        Machine { session, scopes: Scopes::new(data), drafts: Vec::new(), result: Draft::new(), block: None, depth: 0 };
    machine.statement(template)?;
    Ok(machine.result.finish())
}

pub(super) struct Machine<'a, 's> {
    pub session: &'s mut Session,
    pub scopes: Scopes<'a>,
    /// Texts that `set` and `filter` are catching, the innermost last.
    drafts: Vec<Draft>,
    result: Draft,
    /// What the first filter of a chain without a subject is applied to.
    pub block: Option<Value<'a>>,
    /// How deep the expression is that is being looked at.
    pub depth: usize,
}

impl<'a> Machine<'a, '_> {
    fn run(&mut self, body: &'a [Stmt<'a>]) -> Done {
        body.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &'a Stmt<'a>) -> Done {
        self.session.budget.spend_step()?;
        match statement {
            Stmt::Template(template) => self.run(&template.children),
            Stmt::EmitRaw(raw) => self.emit(raw.raw).at(raw.span()),
            Stmt::EmitExpr(emit) => {
                let text = self.text(&emit.expr)?;
                self.emit(&text).at(span(&emit.expr))
            }
            Stmt::IfCond(branch) => {
                let body = if self.value(&branch.expr)?.is_true() { &branch.true_body } else { &branch.false_body };
                self.run(body)
            }
            Stmt::ForLoop(each) => self.for_loop(each),
            Stmt::WithBlock(with) => self.with(with),
            Stmt::Set(set) => {
                let value = self.value(&set.expr)?;
                self.assign(&set.target, value)
            }
            Stmt::SetBlock(set) => {
                let text = self.caught(&set.body, set.filter.as_ref())?;
                self.assign(&set.target, text)
            }
            Stmt::FilterBlock(block) => {
                let text = self.caught(&block.body, Some(&block.filter))?.to_text().at(block.filter_span)?;
                self.emit(&text).at(block.filter_span)
            }
            Stmt::AutoEscape(block) => Err(no_statement("autoescape")).at(block.span()),
            Stmt::Do(call) => Err(no_statement("do")).at(call.span()),
        }
    }

    fn emit(&mut self, text: &str) -> Done {
        let budget = &mut self.session.budget;
        if let Some(draft) = self.drafts.last_mut() {
            return draft.push(text, budget);
        }
        budget.spend_output(text.len())?;
        self.result.push(text, budget)
    }

    /// What a body makes, as a value, through a chain of filters.
    fn caught(&mut self, body: &'a [Stmt<'a>], filter: Option<&'a Expr<'a>>) -> Answer<'a> {
        self.drafts.push(Draft::new());
        self.run(body)?;
        let text = Value::text(self.drafts.pop().unwrap_or_else(Draft::new));
        let Some(filter) = filter else { return Ok(text) };
        self.block = Some(text);
        self.value(filter)
    }

    fn with(&mut self, with: &'a Spanned<ast::WithBlock<'a>>) -> Done {
        self.scopes.push();
        for (target, expr) in &with.assignments {
            let value = self.value(expr)?;
            self.assign(target, value)?;
        }
        self.run(&with.body)?;
        self.scopes.pop();
        Ok(())
    }

    fn for_loop(&mut self, each: &'a Spanned<ast::ForLoop<'a>>) -> Done {
        if each.recursive {
            return Err(Problem::new("a loop cannot be recursive here: write one loop into the other")).at(each.span());
        }
        let items = self.items_of(&each.iter)?;
        let items = match &each.filter_expr {
            Some(condition) => self.filtered(items, &each.target, condition)?,
            None => items,
        };
        if items.is_empty() {
            return self.run(&each.else_body);
        }
        let length = items.len();
        for (index, item) in items.into_iter().enumerate() {
            self.session.budget.spend_step()?;
            self.scopes.push_turn(index, length);
            self.assign(&each.target, item)?;
            self.run(&each.body)?;
            self.scopes.pop();
        }
        Ok(())
    }

    fn items_of(&mut self, iter: &'a Expr<'a>) -> Result<Vec<Value<'a>>, Problem> {
        let over = self.value(iter)?;
        let items = match &over {
            Value::List(list) => {
                self.session.budget.spend_items(list.items.len()).at(span(iter))?;
                list.items.clone()
            }
            Value::Map(map) => {
                self.session.budget.spend_items(map.entries.len()).at(span(iter))?;
                map.entries.keys().cloned().map(Value::Text).collect()
            }
            other => {
                let message =
                    format!("a loop goes over a list or the names of a map, not {}: use lines or split", other.sort());
                return Err(Problem::new(message)).at(span(iter));
            }
        };
        Ok(items)
    }

    fn filtered(
        &mut self,
        items: Vec<Value<'a>>,
        target: &'a Expr<'a>,
        condition: &'a Expr<'a>,
    ) -> Result<Vec<Value<'a>>, Problem> {
        let mut kept = Vec::new();
        for item in items {
            self.scopes.push();
            self.assign(target, item.clone())?;
            if self.value(condition)?.is_true() {
                kept.push(item);
            }
            self.scopes.pop();
        }
        Ok(kept)
    }

    fn assign(&mut self, target: &'a Expr<'a>, value: Value<'a>) -> Done {
        match target {
            Expr::Var(name) => {
                self.session.budget.spend_items(1).at(name.span())?;
                self.scopes.set(name.id, value).at(name.span())
            }
            Expr::List(targets) => {
                let Value::List(list) = &value else {
                    let message = format!("{} cannot be taken apart into several names", value.sort());
                    return Err(Problem::new(message)).at(targets.span());
                };
                if list.items.len() != targets.items.len() {
                    let message = format!("this list does not have {} items, one for each name", targets.items.len());
                    return Err(Problem::new(message)).at(targets.span());
                }
                targets.items.iter().zip(&list.items).try_for_each(|(target, item)| self.assign(target, item.clone()))
            }
            other => Err(Problem::new("only a name can be set: a list or a map stays as it was made")).at(span(other)),
        }
    }
}

fn no_statement(name: &str) -> Problem {
    Problem::new(format!("there is no statement {name}: the statements are filter, for, if, raw, set, with"))
}
