//! From the text of a template to its syntax tree.
//!
//! The grammar is that of minijinja, whose own machine is not used: it counts its work too late to bound it, keeps copies of values that
//! nobody overwrites, and quotes values in errors. Its parser recurses without a limit into some chains (`- - - x`, `x.a.a.a`, `elif`),
//! and a tree as deep would also end whoever walks or drops it, so long ones are refused before it sees them. Next: [`eval`](super::eval).

use minijinja::{
    machinery::{Token, Tokenizer, ast::Stmt, parse as parse_tokens},
    syntax::SyntaxConfig,
};

use super::problem::Problem;

/// The longest text of a template, in bytes.
pub(super) const MAX_TEXT: usize = 64 * 1024;

/// The most words and signs between `{{` and `}}` or `{%` and `%}`: as deep as one of these can be nested in itself.
pub(super) const MAX_TOKENS: usize = 400;

/// The most `elif` of one template, each of which is nested in the one before.
pub(super) const MAX_ELIFS: usize = 50;

pub(super) fn parse(text: &str) -> Result<Stmt<'_>, Problem> {
    if text.len() > MAX_TEXT {
        return Err(Problem::new(format!("its text has {} bytes, and {MAX_TEXT} is the most: split it", text.len())));
    }
    check_chains(text)?;
    parse_tokens(text, "", syntax()?).map_err(|error| refusal(&error))
}

fn syntax() -> Result<SyntaxConfig, Problem> {
    SyntaxConfig::builder().keep_trailing_newline(true).build().map_err(|error| refusal(&error))
}

fn check_chains(text: &str) -> Result<(), Problem> {
    let mut tokens = Tokenizer::new(text, "", false, syntax()?);
    let (mut in_tag, mut elifs) = (0, 0);
    while let Some((token, span)) = tokens.next_token().map_err(|error| refusal(&error))? {
        let offset = super::problem::start(span);
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => in_tag = 0,
            Token::Ident("elif") if in_tag == 0 => (in_tag, elifs) = (1, elifs + 1),
            _ => in_tag += 1,
        }
        if in_tag > MAX_TOKENS {
            let message = format!(
                "there are more than {MAX_TOKENS} words and signs in one pair of braces: take it apart with set"
            );
            return Err(Problem::new(message).at(offset));
        }
        if elifs > MAX_ELIFS {
            let message = format!("there are more than {MAX_ELIFS} elif: look the value up in a map instead");
            return Err(Problem::new(message).at(offset));
        }
    }
    Ok(())
}

/// What the parser says. It has seen the text of the template alone, so that there is no value for it to quote.
fn refusal(error: &minijinja::Error) -> Problem {
    let said = error.detail().map_or_else(|| error.kind().to_string(), |said| said.chars().take(200).collect());
    // Those who come from other tools write `{{ .password }}`.
    let language = "Templates are in the language of Jinja, in which a value is written {{ password }}";
    let problem = Problem::new(format!("the syntax is wrong: {said}. {language}"));
    match error.range() {
        Some(range) => problem.at(range.start),
        None => problem,
    }
}
