// SPDX-License-Identifier: Apache-2.0

// A nested domain of the mock driver. It has no page table. It has an IOTLB of four entries, which
// a test can read and invalidate.

internal import CUAPI
internal import Synchronization
package import SystemPackage
internal import UAPI

package final class MockNestedDomain: NestedDomain {
  /// The vIOMMU through which the domain has been made, if any.
  let viommu: MockVirtualIOMMU?
  private let iotlb: Mutex<[UInt32]>

  /// selftest.c: __mock_domain_alloc_nested()
  init(of viommu: MockVirtualIOMMU? = nil, data: UserData) throws(Errno) {
    guard data.type == UInt32(IOMMU_HWPT_DATA_SELFTEST) else { throw .notSupported }
    let configuration = try data.load(
      iommu_hwpt_selftest.self, type: UInt32(IOMMU_HWPT_DATA_SELFTEST), minimumThrough: \.iotlb)
    try FaultInjection.step()
    self.viommu = viommu
    iotlb = Mutex(
      Array(repeating: configuration.iotlb, count: Int(MOCK_NESTED_DOMAIN_IOTLB_NUM)))
  }

  /// Returns an entry of the IOTLB, or `nil` when there is no such entry.
  func iotlbEntry(_ index: UInt32) -> UInt32? {
    iotlb.withLock { $0.indices.contains(Int(index)) ? $0[Int(index)] : nil }
  }

  /// selftest.c: mock_domain_cache_invalidate_user()
  package func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    let type = UInt32(IOMMU_HWPT_INVALIDATE_DATA_SELFTEST)
    guard entries.type == type else { throw .invalidArgument }
    for index in 0..<entries.count {
      let entry = try entries.load(
        iommu_hwpt_invalidate_selftest.self, at: index, type: type, minimumThrough: \.iotlb_id)
      guard entry.flags & ~UInt32(IOMMU_TEST_INVALIDATE_FLAG_ALL) == 0 else { throw .notSupported }
      guard entry.iotlb_id <= UInt32(MOCK_NESTED_DOMAIN_IOTLB_ID_MAX) else {
        throw .invalidArgument
      }
      iotlb.withLock { iotlb in
        let all = entry.flags & UInt32(IOMMU_TEST_INVALIDATE_FLAG_ALL) != 0
        for index in iotlb.indices where all || index == Int(entry.iotlb_id) { iotlb[index] = 0 }
      }
      handled += 1
    }
  }
}
