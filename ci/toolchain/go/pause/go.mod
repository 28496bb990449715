module coffea-shoppe.io/toolchain/pause

go 1.26
