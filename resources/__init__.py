"""Data files shipped with the program: icons, translations, hardware profiles."""
