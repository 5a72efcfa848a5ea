// SPDX-License-Identifier: Apache-2.0

// The page request groups of a fault queue, and the responses of the client
// (iommufd: struct iommufd_fault).
//
// A group waits until a client reads it. It then has a cookie and awaits the response that names
// the cookie. When the attachment that a group came through ends, or the queue is destroyed, the
// group is removed and the response is INVALID.

internal import CUAPI
internal import DequeModule
internal import HeapModule
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// Page requests with one response (struct iopf_group).
struct PageRequestGroup: Sendable {
  /// In the order of arrival. The last one has the last-request flag.
  let requests: [PageRequest]
  /// The attachment that the requests came through.
  let attachment: AttachmentHandle
  let driver: any IOMMUDriver

  func respond(_ response: PageResponse) {
    guard let request = requests.last else { return }
    driver.respond(to: request.groupID, response)
  }
}

struct PageRequestQueue: QueueContents {
  /// The number of groups that wait or await a response.
  static let capacity = 1 << 16

  struct Delivery: Sendable {
    let cookie: UInt32
    let group: PageRequestGroup
  }

  private var waiting: Deque<PageRequestGroup> = []
  /// By cookie.
  private var awaitingResponse: [UInt32: PageRequestGroup] = [:]
  private var cookies = Cookies()

  var isEmpty: Bool { waiting.isEmpty }

  /// iommufd: iommufd_fault_iopf_handler()
  /// - Returns: `false` when the attachment has ended or the queue is full; the queue is unchanged
  ///   then.
  mutating func append(_ group: PageRequestGroup) -> Bool {
    guard !group.attachment.hasEnded, waiting.count + awaitingResponse.count < Self.capacity
    else { return false }
    waiting.append(group)
    return true
  }

  /// Removes the groups of `attachment`, which has ended; `nil` means all groups.
  /// iommufd: iommufd_auto_response_faults(), iommufd_fault_destroy()
  /// - Returns: the removed groups. The caller responds to them without the queue's lock.
  mutating func remove(_ attachment: AttachmentHandle?) -> [PageRequestGroup] {
    func isAffected(_ group: PageRequestGroup) -> Bool {
      attachment == nil || group.attachment === attachment
    }
    var removed = waiting.filter(isAffected)
    waiting.removeAll(where: isAffected)
    for (cookie, group) in awaitingResponse.sorted(by: { $0.key < $1.key }) where isAffected(group)
    {
      endDelivery(cookie)
      removed.append(group)
    }
    return Array(removed)
  }

  private mutating func endDelivery(_ cookie: UInt32) {
    awaitingResponse[cookie] = nil
    cookies.free(cookie)
  }

  // MARK: Reading

  mutating func dequeue() -> Delivery? {
    guard let group = waiting.popFirst() else { return nil }
    let cookie = cookies.allocate()
    // Entered before the client has the group, so that a detach in between finds it.
    awaitingResponse[cookie] = group
    return Delivery(cookie: cookie, group: group)
  }

  func bytes(of delivery: Delivery) -> [UInt8] {
    delivery.group.requests.flatMap { request in
      let record = iommu_hwpt_pgfault(
        request, of: delivery.group.attachment.device, cookie: delivery.cookie)
      return withUnsafeBytes(of: record) { Array($0) }
    }
  }

  mutating func requeue(_ delivery: Delivery) {
    // A detach may have removed the group meanwhile.
    guard awaitingResponse[delivery.cookie]?.attachment === delivery.group.attachment else {
      return
    }
    endDelivery(delivery.cookie)
    waiting.prepend(delivery.group)
  }

  // MARK: Writing

  /// iommufd: iommufd_fault_fops_write()
  mutating func accept(_ record: [UInt8]) throws(Errno) -> (@Sendable () -> Void)? {
    let record = record.withUnsafeBytes { $0.loadUnaligned(as: iommu_hwpt_page_response.self) }
    let response: PageResponse
    switch record.code {
    case IOMMUFD_PAGE_RESP_SUCCESS.rawValue: response = .success
    case IOMMUFD_PAGE_RESP_INVALID.rawValue: response = .invalid
    default: throw .invalidArgument
    }
    guard let group = awaitingResponse[record.cookie] else {
      if record.cookie == 0, !awaitingResponse.isEmpty { cookies.freeZero() }
      throw .invalidArgument
    }
    endDelivery(record.cookie)
    return { group.respond(response) }
  }
}

/// The cookies of deliveries: the lowest free number from 1 on. The kernel allocates them from an
/// xarray with XA_FLAGS_ALLOC1. xa_erase() of cookie 0, by a response that names it while other
/// deliveries await theirs, marks 0 as free; from then on 0 is a cookie like any other.
private struct Cookies: Sendable {
  private var freed = Heap<UInt32>()
  private var next: UInt32 = 1
  private var hasZero = false

  mutating func allocate() -> UInt32 {
    if let cookie = freed.popMin() { return cookie }
    defer { next += 1 }
    return next
  }

  mutating func free(_ cookie: UInt32) { freed.insert(cookie) }

  mutating func freeZero() {
    if hasZero { return }
    hasZero = true
    freed.insert(0)
  }
}

extension iommu_hwpt_pgfault {
  /// iommufd: iommufd_compose_fault_message()
  fileprivate init(_ request: PageRequest, of device: ObjectID, cookie: UInt32) {
    self.init()
    if let pasid = request.pasid {
      flags |= UInt32(IOMMU_PGFAULT_FLAGS_PASID_VALID.rawValue)
      self.pasid = pasid.rawValue
    }
    if request.isLast { flags |= UInt32(IOMMU_PGFAULT_FLAGS_LAST_PAGE.rawValue) }
    dev_id = device.rawValue
    grpid = request.group
    perm = request.access.rawValue
    addr = request.address.rawValue
    self.cookie = cookie
  }
}
