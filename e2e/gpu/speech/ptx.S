# The PTX of the kernels, as text that ends with a NUL.
	.section .rodata
	.globl kernels_ptx
kernels_ptx:
	.incbin "kernels.ptx"
	.byte 0
	.section .note.GNU-stack, "", @progbits
