//! Tests of the crate from outside: only what is public, as gateway, builder and host use it.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod cosign;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod provenance;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vectors;
