//! What all three macros ask of a struct, and how they read attributes.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, GenericParam, Lifetime, Lit, LitStr,
    Meta, Result,
};

/// The fields of a struct with named fields, or of one without any.
pub fn fields(input: &DeriveInput, derive: &str) -> Result<Vec<Field>> {
    let Data::Struct(data) = &input.data else {
        let found = if matches!(input.data, Data::Enum(_)) { "an enum" } else { "a union" };
        let text = format!(
            "`{derive}` cannot be derived for {found}: write a struct with one field per value"
        );
        return Err(Error::new(input.ident.span(), text));
    };
    match &data.fields {
        Fields::Named(fields) => Ok(fields.named.iter().cloned().collect()),
        Fields::Unit => Ok(Vec::new()),
        Fields::Unnamed(fields) => {
            let text = format!("`{derive}` needs named fields: their names are what is looked up");
            Err(Error::new(fields.span(), text))
        }
    }
}

/// The struct's lifetime, if it has one; it must have no other parameter.
pub fn lifetime(input: &DeriveInput, derive: &str) -> Result<Option<Lifetime>> {
    let mut lifetime = None;
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(parameter) if lifetime.is_none() => {
                lifetime = Some(parameter.lifetime.clone());
            }
            other => {
                let text = format!("`{derive}` allows one lifetime and no other parameter");
                return Err(Error::new(other.span(), text));
            }
        }
    }
    Ok(lifetime)
}

/// Name of a field as the outside knows it.
pub fn name(field: &Field) -> String {
    field.ident.as_ref().map(|ident| ident.unraw().to_string()).unwrap_or_default()
}

/// The text of a doc comment, its lines joined.
pub fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(line) => Some(line.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// A JSON Pointer, checked: Kafka would find out too late.
pub fn pointer(literal: &LitStr) -> Result<String> {
    let pointer = literal.value();
    if !pointer.is_empty() && !pointer.starts_with('/') {
        let text = format!("a JSON Pointer begins with a slash: \"/{pointer}\"");
        return Err(Error::new(literal.span(), text));
    }
    let mut escapes = pointer.split('~').skip(1);
    if escapes.any(|rest| !rest.starts_with(['0', '1'])) {
        let text = "in a JSON Pointer `~` is written `~0`, and a slash within a name `~1`";
        return Err(Error::new(literal.span(), text));
    }
    Ok(pointer)
}

/// The pointer to a member of the payload with this name.
pub fn pointer_to(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// An error about something that was said twice.
pub fn twice(span: Span, what: &str) -> Error {
    Error::new(span, format!("{what} is given twice"))
}
