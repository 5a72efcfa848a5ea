// SPDX-License-Identifier: Apache-2.0

// The events that a vIOMMU reports to the client (iommufd: struct iommufd_veventq).
//
// Every event has a sequence number; lost events are counted too. An event is lost when `depth`
// events with data wait to be read. The last entry of the queue is then a header without data that
// has the number of the newest lost event. A queued event replaces such an entry, because the gap
// in the numbers shows the loss as well.

internal import CUAPI
internal import DequeModule

struct VEventQueueContents: QueueContents {
  struct Event: Sendable {
    let sequence: UInt32
    /// `nil` in an entry that reports lost events.
    let data: [UInt8]?
  }

  private let depth: Int
  private var events: Deque<Event> = []
  /// The number of queued events with data. A dequeued event counts until it is confirmed.
  private var count = 0
  private var nextSequence: UInt32

  init(depth: Int, firstSequence: UInt32 = 0) {
    self.depth = depth
    nextSequence = firstSequence
  }

  /// iommufd: iommufd_viommu_report_event(), iommufd_vevent_handler()
  mutating func append(_ data: [UInt8]) {
    let isLost = count >= depth
    if let last = events.last, last.data == nil { events.removeLast() }
    events.append(Event(sequence: nextSequence, data: isLost ? nil : data))
    if !isLost { count += 1 }
    // The number after INT_MAX is 0.
    nextSequence = (nextSequence + 1) & 0x7fff_ffff
  }

  var isEmpty: Bool { events.isEmpty }

  mutating func dequeue() -> Event? { events.popFirst() }

  func bytes(of event: Event) -> [UInt8] {
    let flags = event.data == nil ? UInt32(IOMMU_VEVENTQ_FLAG_LOST_EVENTS.rawValue) : 0
    let header = iommufd_vevent_header(flags: flags, sequence: event.sequence)
    return withUnsafeBytes(of: header) { Array($0) } + (event.data ?? [])
  }

  /// iommufd: iommufd_veventq_deliver_restore()
  mutating func requeue(_ event: Event) {
    // A newer entry shows the loss as well.
    if event.data == nil, !events.isEmpty { return }
    events.prepend(event)
  }

  mutating func confirm(_ event: Event) {
    if event.data != nil { count -= 1 }
  }
}
