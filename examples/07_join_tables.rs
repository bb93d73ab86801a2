//! 07: join tables. Products and their stock have one key; a product names its supplier, which is the key of another
//! table (a foreign key). Whichever table changes, the rows that it concerns follow.
//!
//! ```console
//! $ cargo run -q --bin 07_join_tables
//! supplier s1 is Miller & Sons, s2 is Weaver
//! product p1 is a hat of s1, p2 is a bag of s1
//! stock of p1 is 7, of p2 is 0
//!   p1: 7 x hat from Miller & Sons
//!   p2: 0 x bag from Miller & Sons
//! product p2 is now a bag of s2
//!   p2: 0 x bag from Weaver
//! supplier s1 is now Miller Ltd
//!   p1: 7 x hat from Miller Ltd
//! stock of p1 is deleted
//!   p1: gone
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use millstream::prelude::*;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Product {
    name: String,
    supplier: String,
    stock: Option<i64>,
}
millstream::json!(Product);

fn catalogue() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let products = b.table::<String, Product>("products", "products");
    let stock = b.table::<String, i64>("stock", "stock");
    let suppliers = b.table::<String, String>("suppliers", "suppliers");
    products
        .join(&stock, |product, n| Product { stock: Some(*n), ..product.clone() })
        .join_on(
            "catalogue",
            &suppliers,
            |product| Some(product.supplier.clone()),
            |product, supplier| format!("{} x {} from {supplier}", product.stock.unwrap_or(0), product.name),
        )
        .to_stream()
        .to("catalogue");
    b.build()
}

fn main() -> Result<()> {
    let t = TopologyTestDriver::new(catalogue()?)?;
    let products = t.input::<String, Product>("products")?;
    let stock = t.input::<String, Option<i64>>("stock")?;
    let suppliers = t.input::<String, String>("suppliers")?;
    let catalogue = t.output::<String, Option<String>>("catalogue")?;
    let product = |name: &str, of: &str| Product { name: name.to_owned(), supplier: of.to_owned(), stock: None };
    let show = |step: &str| {
        println!("{step}");
        catalogue.read().into_iter().for_each(|(id, row)| println!("  {id}: {}", row.unwrap_or("gone".to_owned())));
    };
    suppliers.pipe("s1", "Miller & Sons");
    suppliers.pipe("s2", "Weaver");
    show("supplier s1 is Miller & Sons, s2 is Weaver");
    products.pipe("p1", product("hat", "s1"));
    products.pipe("p2", product("bag", "s1"));
    show("product p1 is a hat of s1, p2 is a bag of s1");
    stock.pipe("p1", 7);
    stock.pipe("p2", 0);
    show("stock of p1 is 7, of p2 is 0");
    products.pipe("p2", product("bag", "s2"));
    show("product p2 is now a bag of s2");
    suppliers.pipe("s1", "Miller Ltd");
    show("supplier s1 is now Miller Ltd");
    stock.pipe("p1", None);
    show("stock of p1 is deleted");
    Ok(())
}
