"""Networks that give depth from focus: GPLWS-Net, Reliefscope's variants of it, and its peers."""
