"""The commands by group; each module has ``register(cli)``, called once the language is known."""
