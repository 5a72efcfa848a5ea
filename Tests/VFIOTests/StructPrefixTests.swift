// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Testing

@testable import VFIO

@Suite("Prefixes of structs that end in an array")
struct StructPrefixTests {
  @Test("a prefix has the size of the C struct without the array")
  func sizes() {
    #expect(MemoryLayout<IRQSetPrefix>.size == MemoryLayout<vfio_irq_set>.size)
    #expect(MemoryLayout<HotResetPrefix>.size == MemoryLayout<vfio_pci_hot_reset_info>.size)
    #expect(MemoryLayout<HotResetPrefix>.size == MemoryLayout<vfio_pci_hot_reset>.size)
    #expect(MemoryLayout<DependentDevice>.stride == MemoryLayout<vfio_pci_dependent_device>.stride)
    #expect(MemoryLayout<FeaturePrefix>.size == MemoryLayout<vfio_device_feature>.size)
  }
}
