//! Derive macros of `sluice-plugin`, where they are documented and re-exported.

mod input;
mod message;
mod row;
mod settings;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See `sluice_plugin::Message`.
#[proc_macro_derive(Message, attributes(message))]
pub fn message(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input), message::expand)
}

/// See `sluice_plugin::Row`.
#[proc_macro_derive(Row, attributes(row))]
pub fn row(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input), row::expand)
}

/// See `sluice_plugin::Settings`.
#[proc_macro_derive(Settings, attributes(settings))]
pub fn settings(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input), settings::expand)
}

fn expand(
    input: &DeriveInput,
    with: fn(&DeriveInput) -> syn::Result<proc_macro2::TokenStream>,
) -> TokenStream {
    with(input).unwrap_or_else(syn::Error::into_compile_error).into()
}

#[cfg(test)]
mod tests;
