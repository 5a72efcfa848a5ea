package import IOMMU

extension PhysicalMemory.Limits {
  /// Small enough for all tests to run at once: a process has 128 TiB of addresses, of which a memory
  /// takes 256 GiB with these limits and 4 TiB with the usual ones.
  package static var test: PhysicalMemory.Limits {
    var limits = PhysicalMemory.Limits()
    limits.addressBits = 38
    return limits
  }
}
