"""The names of the forms of attention, which configs and checks know, too."""

PLAIN, BLOCKWISE, FUSED = FORMS = ('plain', 'blockwise', 'fused')
