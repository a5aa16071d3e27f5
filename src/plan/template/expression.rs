//! What an expression of a template gives.
//!
//! Each says where in the template it failed. Next: [`scope`](super::scope) for names, [`table`](super::table) for all that can be called.

use std::{cmp::Ordering, collections::BTreeMap};

use minijinja::{
    machinery::{
        Span,
        ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, UnaryOpKind},
    },
    value::ValueKind,
};
use zeroize::Zeroizing;

use super::{
    super::render::quote,
    budget::Draft,
    eval::{Answer, Locate, Machine},
    functions::{Args, FunctionKind, find, names},
    problem::Problem,
    scope::missing,
    value::{Text, Value, not_text},
};

/// The deepest that one expression may be nested, each filter and operator of a chain counted.
pub(super) const MAX_EXPRESSION: usize = 100;

impl<'a> Machine<'a, '_> {
    /// What an expression gives; that it does not exist, or is no text, is an error.
    pub(super) fn value(&mut self, expr: &'a Expr<'a>) -> Answer<'a> {
        let value = self.any(expr)?;
        self.known(value, expr)
    }

    pub(super) fn known(&self, value: Value<'a>, expr: &'a Expr<'a>) -> Answer<'a> {
        match value {
            Value::Undefined => Err(missing(expr, &self.scopes)).at(span(expr)),
            Value::Bytes(key) => Err(not_text(key)).at(span(expr)),
            value => Ok(value),
        }
    }

    pub(super) fn text(&mut self, expr: &'a Expr<'a>) -> Result<Text<'a>, Problem> {
        self.value(expr)?.to_text().at(span(expr))
    }

    /// What an expression gives, if anything.
    fn any(&mut self, expr: &'a Expr<'a>) -> Answer<'a> {
        self.session.budget.spend_step().at(span(expr))?;
        if self.depth >= MAX_EXPRESSION {
            let message = format!("this is nested more than {MAX_EXPRESSION} deep: take it apart with set");
            return Err(Problem::new(message)).at(span(expr));
        }
        self.depth += 1;
        let value = match expr {
            Expr::Var(name) => self.scopes.get(name.id, &mut self.session.budget),
            Expr::Const(constant) => literal(&constant.value),
            Expr::Slice(slice) => self.slice(slice),
            Expr::UnaryOp(operation) => self.unary(operation),
            Expr::BinOp(operation) => self.binary(operation),
            Expr::Compare(comparison) => self.compare(comparison),
            Expr::IfExpr(choice) => self.choose(choice),
            Expr::Filter(filter) => self.filter(filter),
            Expr::Test(test) => self.test(test),
            Expr::GetAttr(get) => self.attribute(get),
            Expr::GetItem(get) => self.item(get),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            Expr::Map(map) => self.map(map),
        };
        self.depth -= 1;
        value.at(span(expr))
    }

    fn list(&mut self, items: &'a [Expr<'a>]) -> Answer<'a> {
        self.session.budget.spend_items(items.len())?;
        Value::list(items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?)
    }

    fn map(&mut self, map: &'a ast::Map<'a>) -> Answer<'a> {
        self.session.budget.spend_items(map.keys.len())?;
        let mut entries = BTreeMap::new();
        for (name, value) in map.keys.iter().zip(&map.values) {
            let name = self.text(name)?;
            self.session.budget.spend_bytes(name.len())?;
            entries.insert(name, self.value(value)?);
        }
        Value::map(entries)
    }

    fn choose(&mut self, choice: &'a ast::IfExpr<'a>) -> Answer<'a> {
        if self.value(&choice.test_expr)?.is_true() {
            self.any(&choice.true_expr)
        } else {
            choice.false_expr.as_ref().map_or(Ok(Value::Undefined), |other| self.any(other))
        }
    }

    fn attribute(&mut self, get: &'a ast::GetAttr<'a>) -> Answer<'a> {
        if let (Expr::Var(name), Some(turn)) = (&get.expr, self.scopes.turn())
            && name.id == "loop"
        {
            return Ok(turn.get(get.name));
        }
        self.session.budget.spend_bytes(get.name.len())?;
        Ok(match self.value(&get.expr)? {
            Value::Map(map) => map.entries.get(get.name).cloned().unwrap_or(Value::Undefined),
            _ => Value::Undefined,
        })
    }

    fn item(&mut self, get: &'a ast::GetItem<'a>) -> Answer<'a> {
        let of = self.value(&get.expr)?;
        let index = self.value(&get.subscript_expr)?;
        let found = match (&of, &index) {
            (Value::Map(map), _) => {
                let name = index.to_text().at(span(&get.subscript_expr))?;
                self.session.budget.spend_bytes(name.len())?;
                map.entries.get(&*name).cloned()
            }
            (Value::List(list), Value::Int(index)) => {
                place(*index, list.items.len()).and_then(|at| list.items.get(at).cloned())
            }
            _ => {
                let message = format!(
                    "{} has nothing at {}: only lists and maps have items, and fromjson makes them of JSON",
                    of.sort(),
                    index.sort()
                );
                return Err(Problem::new(message));
            }
        };
        Ok(found.unwrap_or(Value::Undefined))
    }

    fn slice(&mut self, slice: &'a ast::Slice<'a>) -> Answer<'a> {
        if let Some(step) = &slice.step {
            return Err(Problem::new("a part of a text or list has no step: take what is between two places"))
                .at(span(step));
        }
        let of = self.value(&slice.expr)?;
        let from = self.bound(slice.start.as_ref())?;
        let to = self.bound(slice.stop.as_ref())?;
        let budget = &mut self.session.budget;
        match &of {
            Value::List(list) => {
                let (from, to) = range(from, to, list.items.len());
                let items: Vec<_> = list.items.iter().skip(from).take(to.saturating_sub(from)).cloned().collect();
                budget.spend_items(items.len())?;
                Value::list(items)
            }
            Value::Text(text) => {
                budget.spend_bytes(text.len().saturating_mul(2))?;
                let (from, to) = range(from, to, text.chars().count());
                let mut draft = Draft::new();
                for character in text.chars().skip(from).take(to.saturating_sub(from)) {
                    draft.push_char(character, budget)?;
                }
                Ok(Value::text(draft))
            }
            other => Err(Problem::new(format!("only a text or a list has parts, not {}", other.sort()))),
        }
    }

    fn bound(&mut self, expr: Option<&'a Expr<'a>>) -> Result<Option<i64>, Problem> {
        let Some(expr) = expr else { return Ok(None) };
        match self.value(expr)? {
            Value::Int(number) => Ok(Some(number)),
            Value::None => Ok(None),
            other => Err(Problem::new(format!("a place in a text or list is a whole number, not {}", other.sort())))
                .at(span(expr)),
        }
    }

    fn unary(&mut self, operation: &'a ast::UnaryOp<'a>) -> Answer<'a> {
        let value = self.value(&operation.expr)?;
        match (&operation.op, value) {
            (UnaryOpKind::Not, value) => Ok(Value::Bool(!value.is_true())),
            (UnaryOpKind::Neg, Value::Int(number)) => {
                number.checked_neg().map(Value::Int).ok_or_else(|| Problem::new("this number is too large"))
            }
            (UnaryOpKind::Neg, other) => {
                Err(Problem::new(format!("only a whole number has a -, not {}", other.sort())))
            }
        }
    }

    fn binary(&mut self, operation: &'a ast::BinOp<'a>) -> Answer<'a> {
        let left = self.value(&operation.left)?;
        match (operation.op, left.is_true()) {
            (BinOpKind::ScAnd, false) | (BinOpKind::ScOr, true) => return Ok(left),
            (BinOpKind::ScAnd | BinOpKind::ScOr, _) => return self.any(&operation.right),
            _ => {}
        }
        let right = self.value(&operation.right)?;
        let compared = match operation.op {
            BinOpKind::Eq => CompareOpKind::Eq,
            BinOpKind::Ne => CompareOpKind::Ne,
            BinOpKind::Lt => CompareOpKind::Lt,
            BinOpKind::Lte => CompareOpKind::Lte,
            BinOpKind::Gt => CompareOpKind::Gt,
            BinOpKind::Gte => CompareOpKind::Gte,
            BinOpKind::In => CompareOpKind::In,
            BinOpKind::Concat => return self.concatenated(&left.to_text()?, &right.to_text()?),
            BinOpKind::Add => match (&left, &right) {
                (Value::Text(left), Value::Text(right)) => return self.concatenated(left, right),
                _ => return sum(&left, &right, i64::checked_add),
            },
            BinOpKind::Sub => return sum(&left, &right, i64::checked_sub),
            BinOpKind::Mul
            | BinOpKind::Div
            | BinOpKind::FloorDiv
            | BinOpKind::Rem
            | BinOpKind::Pow
            | BinOpKind::ScAnd
            | BinOpKind::ScOr => {
                return Err(Problem::new("there is no operator * / // % or **: templates do not calculate"));
            }
        };
        self.holds(compared, &left, &right).map(Value::Bool)
    }

    fn compare(&mut self, comparison: &'a ast::Compare<'a>) -> Answer<'a> {
        let mut left = self.value(&comparison.expr)?;
        for next in &comparison.ops {
            let right = self.value(&next.expr)?;
            if !self.holds(next.op, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn holds(&mut self, comparison: CompareOpKind, left: &Value<'a>, right: &Value<'a>) -> Result<bool, Problem> {
        let budget = &mut self.session.budget;
        Ok(match comparison {
            CompareOpKind::Eq => left.equals(right, budget)?,
            CompareOpKind::Ne => !left.equals(right, budget)?,
            CompareOpKind::Lt => left.order(right, budget)? == Ordering::Less,
            CompareOpKind::Lte => left.order(right, budget)? != Ordering::Greater,
            CompareOpKind::Gt => left.order(right, budget)? == Ordering::Greater,
            CompareOpKind::Gte => left.order(right, budget)? != Ordering::Less,
            CompareOpKind::In => right.holds(left, budget)?,
            CompareOpKind::NotIn => !right.holds(left, budget)?,
        })
    }

    fn concatenated(&mut self, left: &str, right: &str) -> Answer<'a> {
        let budget = &mut self.session.budget;
        let mut draft = Draft::sized(left.len().saturating_add(right.len()), budget)?;
        draft.push(left, budget)?;
        draft.push(right, budget)?;
        Ok(Value::text(draft))
    }

    fn filter(&mut self, filter: &'a ast::Filter<'a>) -> Answer<'a> {
        let subject = match &filter.expr {
            Some(expr) => self.any(expr)?,
            None => self.block.take().unwrap_or(Value::Undefined),
        };
        self.apply(FunctionKind::Filter, filter.name, subject, filter.expr.as_ref(), &filter.args)
    }

    fn test(&mut self, test: &'a ast::Test<'a>) -> Answer<'a> {
        let subject = self.any(&test.expr)?;
        self.apply(FunctionKind::Test, test.name, subject, Some(&test.expr), &test.args)
    }

    fn call(&mut self, call: &'a ast::Call<'a>) -> Answer<'a> {
        match &call.expr {
            Expr::Var(name) => self.apply(FunctionKind::Function, name.id, Value::Undefined, None, &call.args),
            Expr::GetAttr(get) => {
                let message = format!(
                    "there is no method {}: use a filter, one of {}",
                    quote(get.name),
                    names(FunctionKind::Filter)
                );
                Err(Problem::new(message))
            }
            _ => Err(Problem::new(format!("only a function can be called, one of {}", names(FunctionKind::Function)))),
        }
    }

    fn apply(
        &mut self,
        kind: FunctionKind,
        name: &'a str,
        subject: Value<'a>,
        expr: Option<&'a Expr<'a>>,
        args: &'a [CallArg<'a>],
    ) -> Answer<'a> {
        let Some(function) = find(kind, name) else {
            return Err(unknown(kind, name));
        };
        let subject = match expr {
            Some(expr) if !function.takes_undefined => self.known(subject, expr)?,
            _ => subject,
        };
        let (mut by_place, mut by_name) = (Vec::new(), Vec::new());
        for arg in args {
            match arg {
                CallArg::Pos(expr) => by_place.push(self.value(expr)?),
                CallArg::Kwarg(name, expr) => by_name.push((*name, self.value(expr)?)),
                CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
                    return Err(Problem::new("arguments cannot be spread with *: write each")).at(span(expr));
                }
            }
        }
        Args::bind(function, subject, by_place, by_name)?.call(function, self.session)
    }
}

/// Says that there is no such filter, test or function, or that it is another of these.
fn unknown(kind: FunctionKind, name: &str) -> Problem {
    let word = |kind| match kind {
        FunctionKind::Filter => "filter",
        FunctionKind::Test => "test",
        FunctionKind::Function => "function",
    };
    let others = [FunctionKind::Filter, FunctionKind::Test, FunctionKind::Function];
    let message = match others.into_iter().find_map(|other| find(other, name)) {
        Some(function) => format!("{name} is a {}, used like {}", word(function.doc.kind), function.doc.example),
        None => format!("there is no {} {}: the {0}s are {}", word(kind), quote(name), names(kind)),
    };
    Problem::new(message)
}

/// Where an expression is. Of these three, the parser says where what is before them is.
pub(super) fn span(mut expr: &Expr<'_>) -> Span {
    loop {
        expr = match expr {
            Expr::BinOp(operation) => &operation.left,
            Expr::Compare(comparison) => &comparison.expr,
            Expr::IfExpr(choice) => &choice.true_expr,
            other => return other.span(),
        };
    }
}

/// A value that is written in the template itself.
fn literal(value: &minijinja::Value) -> Answer<'_> {
    Ok(match (value.kind(), value.as_str()) {
        (_, Some(text)) => Value::Text(Text::Borrowed(text)),
        (ValueKind::Bool, _) => Value::Bool(value.is_true()),
        (ValueKind::Number, _) => match value.is_integer().then(|| value.as_i64()).flatten() {
            Some(whole) => Value::Int(whole),
            // The parser makes `1e400` infinite, which is no number of JSON nor of any configuration.
            None if f64::try_from(value.clone()).is_ok_and(f64::is_infinite) => {
                return Err(Problem::new("this number is too large"));
            }
            None => Value::Number(Zeroizing::new(value.to_string()).into()),
        },
        _ => Value::None,
    })
}

fn sum<'a>(left: &Value<'a>, right: &Value<'a>, add: fn(i64, i64) -> Option<i64>) -> Answer<'a> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            add(*left, *right).map(Value::Int).ok_or_else(|| Problem::new("the result is too large a number"))
        }
        _ => Err(Problem::new(format!(
            "{} and {} cannot be added or subtracted: write ~ to join texts",
            left.sort(),
            right.sort()
        ))),
    }
}

/// Where an index points, counted from the end if it is negative.
fn place(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(from_start) => Some(from_start),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn range(from: Option<i64>, to: Option<i64>, length: usize) -> (usize, usize) {
    let at = |bound: i64| place(bound, length).unwrap_or(0).min(length);
    (from.map_or(0, at), to.map_or(length, at))
}
