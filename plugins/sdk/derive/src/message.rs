//! `#[derive(Message)]`: cursors over the batch's columns.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{DeriveInput, Error, Field, Ident, Lifetime, LitStr, Result, Type};

use crate::input;

const KNOWN: &str =
    "`pointer = \"/...\"`, `payload`, `key`, `timestamp`, `position`, `headers` or `topic`";

/// Where a field comes from.
enum Source {
    /// The JSON payload, at this pointer.
    Pointer(String),
    /// Another part of the message: its word, and its type in `sluice_plugin::attribute`.
    Part(&'static str, Ident),
}

struct MessageField {
    name: Ident,
    ty: Type,
    source: Source,
    cursor: Ident,
}

/// Implements `Message` for a struct.
pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = input::fields(input, "Message")?
        .iter()
        .enumerate()
        .map(|(index, field)| MessageField::parse(index, field))
        .collect::<Result<Vec<_>>>()?;
    let own = input::lifetime(input, "Message")?;
    let lifetime = own.clone().unwrap_or_else(|| Lifetime::new("'message", input.ident.span()));
    let arguments = own.map(|own| quote!(<#own>));
    let ident = &input.ident;

    let inputs = fields.iter().filter_map(|field| field.input(&lifetime));
    let reads = fields.iter().filter_map(MessageField::reads);
    let cursor_types = fields.iter().map(|field| field.cursor_type(&lifetime));
    let open = fields.iter().map(|field| field.open(&lifetime));
    let cursors = fields.iter().map(|field| &field.cursor);
    let step = fields.iter().map(|field| field.step(&lifetime));
    let build = fields.iter().map(MessageField::build);
    let readers = fields.iter().map(|field| field.reader(&lifetime)).collect::<Vec<_>>();
    let types = fields.iter().map(|field| &field.ty).collect::<Vec<_>>();
    Ok(quote! {
        // A type that does not fit is one error here, about the type; below it would be many.
        const _: () = {
            #[allow(dead_code, clippy::extra_unused_lifetimes)]
            fn check<#lifetime>() {
                #({
                    fn fits<#lifetime, T: #readers>() {}
                    fits::<#lifetime, #types>();
                })*
            }
        };

        #[automatically_derived]
        impl<#lifetime> ::sluice_plugin::Message<#lifetime> for #ident #arguments
        where
            #(#types: #readers,)*
        {
            const INPUTS: &'static [::sluice_plugin::schema::Input] = &[#(#inputs),*];

            type Columns = (#(#cursor_types,)*);

            fn reads() -> ::sluice_plugin::schema::Attributes {
                ::sluice_plugin::schema::Attributes::empty() #(| #reads)*
            }

            #[allow(unused_mut, unused_variables)]
            fn open(
                batch: &#lifetime ::sluice_plugin::runtime::Batch,
            ) -> ::core::result::Result<Self::Columns, ::std::string::String> {
                let mut opener = ::sluice_plugin::message::Opener::new(batch);
                ::core::result::Result::Ok((#(#open,)*))
            }

            #[inline]
            fn next(
                (#(#cursors,)*): &mut Self::Columns,
            ) -> ::core::result::Result<Self, ::sluice_plugin::Rejection> {
                // All cursors move before one of them may turn the message away.
                #(#step)*
                ::core::result::Result::Ok(Self { #(#build),* })
            }
        }
    })
}

impl MessageField {
    fn parse(index: usize, field: &Field) -> Result<Self> {
        let mut source = None;
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("message"))
        {
            attribute.parse_nested_meta(|meta| {
                let found = if meta.path.is_ident("pointer") {
                    Source::Pointer(input::pointer(&meta.value()?.parse::<LitStr>()?)?)
                } else {
                    part(&meta.path).ok_or_else(|| meta.error(format!("expected {KNOWN}")))?
                };
                match source.replace(found) {
                    None => Ok(()),
                    Some(_) => Err(meta.error("a field comes from one place only")),
                }
            })?;
        }
        let name = field.ident.clone().ok_or_else(|| Error::new_spanned(field, "needs a name"))?;
        let source =
            source.unwrap_or_else(|| Source::Pointer(input::pointer_to(&input::name(field))));
        Ok(Self { name, ty: field.ty.clone(), source, cursor: format_ident!("cursor_{index}") })
    }

    /// What the host decodes for this field.
    fn input(&self, lifetime: &Lifetime) -> Option<TokenStream> {
        let Source::Pointer(pointer) = &self.source else { return None };
        let ty = &self.ty;
        Some(quote! {
            ::sluice_plugin::schema::Input {
                pointer: #pointer,
                kind: <#ty as ::sluice_plugin::message::Field<#lifetime>>::KIND,
                required: <#ty as ::sluice_plugin::message::Field<#lifetime>>::REQUIRED,
            }
        })
    }

    /// What the host hands over beside decoded fields.
    fn reads(&self) -> Option<TokenStream> {
        let Source::Part(_, part) = &self.source else { return None };
        Some(quote! {
            <::sluice_plugin::attribute::#part as ::sluice_plugin::attribute::Part>::reads()
        })
    }

    /// The trait through which the field's type reads it.
    fn reader(&self, lifetime: &Lifetime) -> TokenStream {
        match &self.source {
            Source::Pointer(_) => quote!(::sluice_plugin::message::Field<#lifetime>),
            Source::Part(_, part) => quote! {
                ::sluice_plugin::attribute::Attribute<#lifetime, ::sluice_plugin::attribute::#part>
            },
        }
    }

    fn cursor_type(&self, lifetime: &Lifetime) -> TokenStream {
        let (ty, reader) = (&self.ty, self.reader(lifetime));
        quote!(<#ty as #reader>::Cursor)
    }

    fn open(&self, lifetime: &Lifetime) -> TokenStream {
        let ty = &self.ty;
        match &self.source {
            Source::Pointer(pointer) => quote!(opener.field::<#ty>(#pointer)?),
            Source::Part(word, part) => quote! {
                ::sluice_plugin::attribute::open::<
                    #lifetime, ::sluice_plugin::attribute::#part, #ty
                >(batch, #word)?
            },
        }
    }

    fn step(&self, lifetime: &Lifetime) -> TokenStream {
        let (ty, cursor, reader) = (&self.ty, &self.cursor, self.reader(lifetime));
        quote!(let #cursor = <#ty as #reader>::next(#cursor);)
    }

    fn build(&self) -> TokenStream {
        let (name, cursor) = (&self.name, &self.cursor);
        match self.source {
            Source::Pointer(_) => quote!(#name: #cursor),
            Source::Part(..) => quote!(#name: #cursor?),
        }
    }
}

fn part(path: &syn::Path) -> Option<Source> {
    let parts = [
        ("payload", "Payload"),
        ("key", "Key"),
        ("timestamp", "Time"),
        ("position", "Place"),
        ("headers", "HeaderList"),
        ("topic", "Topic"),
    ];
    let (word, name) = parts.into_iter().find(|(word, _)| path.is_ident(word))?;
    Some(Source::Part(word, format_ident!("{name}")))
}
