// SPDX-License-Identifier: Apache-2.0

// An open /dev/iommu with the selftest interface.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import UAPI

@testable import IOMMUFD

struct MockFile {
  let file: ControlFile
  private let argument = TestMemory()

  init() throws { file = try ControlFile(hasSelftest: true) }

  func close() { file.close() }

  /// - Parameter readOnly: Whether the memory of the command cannot be written.
  @discardableResult
  func test(
    _ operation: Int, id: UInt32 = 0, readOnly: Bool = false,
    _ prepare: (inout iommu_test_cmd) -> Void = { _ in }
  ) -> Result<iommu_test_cmd, Errno> {
    var command = iommu_test_cmd()
    command.size = UInt32(MemoryLayout<iommu_test_cmd>.size)
    command.op = UInt32(operation)
    command.id = id
    prepare(&command)
    let place = argument.base.bindMemory(to: iommu_test_cmd.self, capacity: 1)
    place.pointee = command
    if readOnly { argument.protect(.read) }
    defer { argument.protect(.readWrite) }
    return file.call(.test, argument.address).map { _ in place.pointee }
  }

  /// MOCK_DOMAIN_FLAGS.
  func makeDevice(
    _ target: UInt32, flags: UInt32 = 0, readOnly: Bool = false
  ) -> Result<(device: UInt32, bound: UInt32, hwpt: UInt32), Errno> {
    test(IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, id: target, readOnly: readOnly) {
      $0.mock_domain_flags.dev_flags = flags
    }.map {
      ($0.mock_domain.out_stdev_id, $0.mock_domain.out_idev_id, $0.mock_domain.out_hwpt_id)
    }
  }

  /// MOCK_DOMAIN_REPLACE.
  func replace(_ device: UInt32, with target: UInt32) -> Errno? {
    test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id: device) { $0.mock_domain_replace.pt_id = target }
      .error
  }

  func allocate(
    _ device: UInt32, on target: UInt32, flags: UInt32 = 0, type: UInt32 = 0,
    data: [UInt32] = [], length: UInt32? = nil, fault: UInt32 = 0
  ) -> Result<UInt32, Errno> {
    let memory = TestMemory()
    for (index, word) in data.enumerated() { memory.store(word, at: index * 4) }
    var command = iommu_hwpt_alloc()
    command.size = UInt32(MemoryLayout<iommu_hwpt_alloc>.size)
    command.dev_id = device
    command.pt_id = target
    command.flags = flags
    command.data_type = type
    command.data_len = length ?? UInt32(data.count * 4)
    command.data_uptr = memory.address
    command.fault_id = fault
    if let error = file.call(.hwptAlloc, &command) { return .failure(error) }
    return .success(command.out_hwpt_id)
  }

  /// Makes a nested HWPT whose IOTLB entries have the value `value`.
  func nest(_ device: UInt32, on parent: UInt32, _ value: UInt32 = 7) -> Result<UInt32, Errno> {
    allocate(device, on: parent, type: UInt32(IOMMU_HWPT_DATA_SELFTEST), data: [value])
  }

  @discardableResult
  func destroy(_ id: UInt32) -> Errno? {
    var command = iommu_destroy(size: 8, id: id)
    return file.call(.destroy, &command)
  }

  func map(_ ioas: UInt32, _ memory: TestMemory, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_map(
      size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: memory.address,
      length: UInt64(memory.byteCount), iova: iova)
    return file.call(.ioasMap, &command)
  }
}

extension Result where Failure == Errno {
  var error: Errno? {
    if case .failure(let error) = self { error } else { nil }
  }
}
