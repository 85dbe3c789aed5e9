"""Public text-to-image weights as the start of a cascade: prior and image tower as they are, the decoder inflated.

What is adopted makes the pictures that it made before; that they move is learnt from clips without text (section 3.2).
"""
