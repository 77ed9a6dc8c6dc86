//! `#[derive(Row)]`: builders of an output's columns.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Field, Ident, LitStr, Result, Token, Type, parenthesized};

use crate::input;

/// `#[row(output = "...", pass(...))]`
#[derive(Default)]
struct Options {
    output: Option<String>,
    passed: Vec<Passed>,
}

/// `device_id: &str` or `firmware: Option<&str> = "/meta/firmware"`
struct Passed {
    name: Ident,
    ty: Type,
    pointer: String,
}

/// A field of the struct.
struct Computed {
    name: Ident,
    ty: Type,
    column: String,
    builder: Ident,
}

/// Implements `Row` for a struct.
pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let options = Options::parse(input)?;
    let output = options.output.as_ref().ok_or_else(|| {
        Error::new(
            input.ident.span(),
            "which output are these rows for? `#[row(output = \"...\")]`",
        )
    })?;
    let fields = input::fields(input, "Row")?
        .iter()
        .enumerate()
        .map(|(index, field)| Computed::parse(index, field))
        .collect::<Result<Vec<_>>>()?;
    refuse_twins(&options.passed, &fields)?;
    input::lifetime(input, "Row")?;
    let (generics, arguments, _) = input.generics.split_for_impl();
    let ident = &input.ident;

    let passed = options.passed.iter().map(Passed::cell);
    let computed = fields.iter().map(Computed::cell);
    let builder_types = fields.iter().map(Computed::builder_type).collect::<Vec<_>>();
    let builders = fields.iter().map(|field| &field.builder).collect::<Vec<_>>();
    let push = fields.iter().map(Computed::push);
    let types = fields.iter().map(|field| &field.ty);
    let bounds = fields.iter().map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> #ty: ::sluice_plugin::row::Cell)
    });
    Ok(quote! {
        // A type that does not fit is one error here, about the type; below it would be many.
        const _: () = {
            #[allow(dead_code, clippy::extra_unused_lifetimes)]
            fn check #generics () {
                fn fits<T: ::sluice_plugin::row::Cell>() {}
                #(fits::<#types>();)*
            }
        };

        #[automatically_derived]
        #[allow(trivial_bounds)]
        impl #generics ::sluice_plugin::Row for #ident #arguments
        where
            #(#bounds,)*
        {
            const TABLE: ::sluice_plugin::schema::Table = ::sluice_plugin::schema::Table {
                output: #output,
                cells: &[#(#passed,)* #(#computed),*],
            };

            type Columns = (#(#builder_types,)*);

            #[allow(unused_variables, clippy::unused_unit)]
            fn columns(rows: usize) -> Self::Columns {
                (#(<#builder_types as ::sluice_plugin::row::Builder>::with_capacity(rows),)*)
            }

            #[inline]
            fn put_into(self, (#(#builders,)*): &mut Self::Columns) {
                #(#push)*
            }

            fn finish(
                (#(#builders,)*): Self::Columns,
            ) -> ::std::vec::Vec<::sluice_plugin::runtime::Column> {
                ::std::vec![#(::sluice_plugin::row::Builder::finish(#builders)),*]
            }
        }
    })
}

/// One column, one value.
fn refuse_twins(passed: &[Passed], computed: &[Computed]) -> Result<()> {
    let passed = passed.iter().map(|field| (field.name.unraw().to_string(), field.name.span()));
    let computed = computed.iter().map(|field| (field.column.clone(), field.name.span()));
    let mut known = Vec::new();
    for (column, span) in passed.chain(computed) {
        if known.contains(&column) {
            return Err(input::twice(span, &format!("column `{column}`")));
        }
        known.push(column);
    }
    Ok(())
}

impl Options {
    fn parse(input: &DeriveInput) -> Result<Self> {
        let mut options = Self::default();
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("row")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("output") {
                    options.output = Some(meta.value()?.parse::<LitStr>()?.value());
                } else if meta.path.is_ident("pass") {
                    let content;
                    parenthesized!(content in meta.input);
                    let passed = Punctuated::<Passed, Token![,]>::parse_terminated(&content)?;
                    options.passed.extend(passed);
                } else {
                    return Err(
                        meta.error("expected `output = \"...\"` or `pass(field: Type, ...)`")
                    );
                }
                Ok(())
            })?;
        }
        Ok(options)
    }
}

impl syn::parse::Parse for Passed {
    fn parse(content: syn::parse::ParseStream) -> Result<Self> {
        let name = Ident::parse_any(content)?;
        content.parse::<Token![:]>()?;
        let ty = content.parse()?;
        let pointer = if content.parse::<Option<Token![=]>>()?.is_some() {
            input::pointer(&content.parse()?)?
        } else {
            input::pointer_to(&name.unraw().to_string())
        };
        Ok(Self { name, ty, pointer })
    }
}

impl Passed {
    fn cell(&self) -> TokenStream {
        let (name, ty, pointer) = (self.name.unraw().to_string(), &self.ty, &self.pointer);
        quote! {
            ::sluice_plugin::schema::Cell {
                name: #name,
                kind: <#ty as ::sluice_plugin::message::Field>::KIND,
                nullable: !<#ty as ::sluice_plugin::message::Field>::REQUIRED,
                pointer: ::core::option::Option::Some(#pointer),
            }
        }
    }
}

impl Computed {
    fn parse(index: usize, field: &Field) -> Result<Self> {
        let mut column = input::name(field);
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("row")) {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("column") {
                    return Err(meta.error("expected `column = \"...\"`"));
                }
                column = meta.value()?.parse::<LitStr>()?.value();
                Ok(())
            })?;
        }
        let name = field.ident.clone().ok_or_else(|| Error::new_spanned(field, "needs a name"))?;
        Ok(Self { name, ty: field.ty.clone(), column, builder: format_ident!("builder_{index}") })
    }

    fn cell(&self) -> TokenStream {
        let (column, ty) = (&self.column, &self.ty);
        quote! {
            ::sluice_plugin::schema::Cell {
                name: #column,
                kind: <#ty as ::sluice_plugin::row::Cell>::KIND,
                nullable: <#ty as ::sluice_plugin::row::Cell>::NULLABLE,
                pointer: ::core::option::Option::None,
            }
        }
    }

    fn builder_type(&self) -> TokenStream {
        let ty = &self.ty;
        quote!(<#ty as ::sluice_plugin::row::Cell>::Builder)
    }

    fn push(&self) -> TokenStream {
        let (name, builder) = (&self.name, &self.builder);
        quote!(::sluice_plugin::row::Cell::put_into(self.#name, #builder);)
    }
}
