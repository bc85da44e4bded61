"""Soccer-Twos: two against two, on a field of our own or through the real package."""
