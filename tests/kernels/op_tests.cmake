# Tests of ops, one program each. Every one also runs on the emulated CUDA device (tests/cuda_on_host/backend).
set(DEPTHROUTE_OP_TESTS
  test_adamw
  test_attention
  test_column_sums
  test_cross_entropy
  test_embedding
  test_gemm
  test_memory
  test_qk_norm_rope
  test_rms_norm
  test_routing
  test_routing_bf16
  test_routing_given
  test_routing_properties
  test_routing_shares
  test_select_rows
  test_swiglu)
