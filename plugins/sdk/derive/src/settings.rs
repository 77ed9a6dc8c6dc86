//! `#[derive(Settings)]`: a strict reader and a JSON Schema.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Expr, ExprLit, Field, Ident, Lit, Result, Token, Type};

use crate::input;

struct SettingField {
    ident: Ident,
    name: String,
    ty: Type,
    documentation: String,
    default: Option<TokenStream>,
    minimum: Option<Expr>,
    maximum: Option<Expr>,
}

/// Implements `Settings`, and `Setting` for use within other settings.
pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = input::fields(input, "Settings")?
        .iter()
        .map(SettingField::parse)
        .collect::<Result<Vec<_>>>()?;
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new_spanned(
            parameter,
            "settings own their values and have no parameters",
        ));
    }
    let ident = &input.ident;
    let documentation = input::documentation(&input.attrs);
    // A type that does not fit is an error here, about the type; below it would be many.
    let bounds = fields.iter().map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> #ty: ::sluice_plugin::settings::Setting)
    });
    let names = fields.iter().map(|field| &field.ident).collect::<Vec<_>>();
    let describe = fields.iter().map(SettingField::describe);
    let read = fields.iter().map(SettingField::read);
    let write = fields.iter().map(SettingField::write);
    let json_schema = if fields.is_empty() {
        quote!(::std::string::String::new())
    } else {
        quote!(::sluice_plugin::settings::json_schema::<Self>())
    };
    Ok(quote! {
        #[automatically_derived]
        #[allow(trivial_bounds)]
        impl ::sluice_plugin::settings::Setting for #ident
        where
            #(#bounds,)*
        {
            #[allow(unused_mut)]
            fn schema() -> ::sluice_plugin::settings::Value {
                let mut schema = ::sluice_plugin::settings::SchemaWriter::new(#documentation);
                #(#describe)*
                schema.finish()
            }

            #[allow(unused_mut)]
            fn read(
                value: ::sluice_plugin::settings::Value,
            ) -> ::core::result::Result<Self, ::std::string::String> {
                let mut reader = ::sluice_plugin::settings::Reader::new(value)?;
                #(#read)*
                reader.finish()?;
                ::core::result::Result::Ok(Self {
                    #(#names: #names.expect("a field that was not read is an error of the reader")),*
                })
            }

            fn write(&self) -> ::sluice_plugin::settings::Value {
                ::sluice_plugin::settings::Value::Object(
                    <[_; _]>::into_iter([#(#write),*]).collect()
                )
            }
        }

        #[automatically_derived]
        impl ::sluice_plugin::Settings for #ident {
            fn from_json(settings: &str) -> ::core::result::Result<Self, ::std::string::String> {
                ::sluice_plugin::settings::from_json(settings)
            }

            fn json_schema() -> ::std::string::String {
                #json_schema
            }
        }
    })
}

impl SettingField {
    fn parse(field: &Field) -> Result<Self> {
        let ident = field.ident.clone().ok_or_else(|| Error::new_spanned(field, "needs a name"))?;
        let mut parsed = Self {
            ident,
            name: input::name(field),
            ty: field.ty.clone(),
            documentation: input::documentation(&field.attrs),
            default: None,
            minimum: None,
            maximum: None,
        };
        for attribute in
            field.attrs.iter().filter(|attribute| attribute.path().is_ident("settings"))
        {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("default") {
                    parsed.default = Some(default(&meta)?);
                } else if meta.path.is_ident("minimum") {
                    parsed.minimum = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("maximum") {
                    parsed.maximum = Some(meta.value()?.parse()?);
                } else {
                    return Err(meta.error(
                        "expected `default`, `default = ...`, `minimum = ...` or `maximum = ...`",
                    ));
                }
                Ok(())
            })?;
        }
        Ok(parsed)
    }

    fn describe(&self) -> TokenStream {
        let Self { name, ty, documentation, .. } = self;
        let default = optional(self.default.as_ref());
        let minimum = optional(self.minimum.as_ref());
        let maximum = optional(self.maximum.as_ref());
        quote! {
            schema.field::<#ty>(
                #name, #documentation, #default, [("minimum", #minimum), ("maximum", #maximum)],
            );
        }
    }

    fn read(&self) -> TokenStream {
        let Self { ident, name, ty, .. } = self;
        let default = optional(self.default.as_ref());
        let check = if self.minimum.is_some() || self.maximum.is_some() {
            let minimum = optional(self.minimum.as_ref());
            let maximum = optional(self.maximum.as_ref());
            quote!(|value| ::sluice_plugin::settings::bound(value, #minimum, #maximum))
        } else {
            quote!(|_| ::core::result::Result::Ok(()))
        };
        quote!(let #ident = reader.field::<#ty>(#name, #default, #check);)
    }

    fn write(&self) -> TokenStream {
        let Self { ident, name, .. } = self;
        quote! {
            (::std::string::String::from(#name), ::sluice_plugin::settings::Setting::write(&self.#ident))
        }
    }
}

/// `default = 5`, or `default` alone.
fn default(meta: &syn::meta::ParseNestedMeta) -> Result<TokenStream> {
    if !meta.input.peek(Token![=]) {
        return Ok(quote!(::core::default::Default::default()));
    }
    let value: Expr = meta.value()?.parse()?;
    // So that a `String` takes a literal.
    let is_text = matches!(&value, Expr::Lit(ExprLit { lit: Lit::Str(_), .. }));
    Ok(if is_text { quote_spanned!(value.span()=> #value.into()) } else { quote!(#value) })
}

fn optional<T: quote::ToTokens>(value: Option<&T>) -> TokenStream {
    if let Some(value) = value {
        quote!(::core::option::Option::Some(#value))
    } else {
        quote!(::core::option::Option::None)
    }
}
